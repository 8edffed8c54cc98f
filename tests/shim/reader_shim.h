/* SPDX-License-Identifier: MIT */
/*
 * reader_shim.h - base/reader.h, and a pointer published by it.
 */
#ifndef FLATVIEW_TESTS_READER_SHIM_H
#define FLATVIEW_TESTS_READER_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void reader_shim_enter(void);
void reader_shim_exit(void);
bool reader_shim_ongoing(void);
int reader_shim_register(void);
int reader_shim_unregister(void);
bool reader_shim_registered(void);
void reader_shim_wait(void);
uint64_t reader_shim_grace_periods(void);

/* As a program that uses the same liburcu beside the library. */
void reader_shim_foreign_register(void);
void reader_shim_foreign_unregister(void);
void reader_shim_foreign_enter(void);
void reader_shim_foreign_exit(void);

/* fn(arg) after a grace period, on the worker. */
void reader_shim_defer(void (*fn)(void *arg), void *arg);

/* A published int that is not atomic itself. */
void reader_shim_publish(int *value);
int *reader_shim_load(void);

#ifdef __cplusplus
}
#endif

#endif
