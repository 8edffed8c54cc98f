/* SPDX-License-Identifier: MIT */
#include "shim/reader_shim.h"

#include <stdlib.h>

#include "base/reader.h"

typedef struct Deferral {
    ReaderDeferred deferred;
    void (*fn)(void *arg);
    void *arg;
} Deferral;

static int *published;

void reader_shim_enter(void)
{
    reader_enter();
}

void reader_shim_exit(void)
{
    reader_exit();
}

bool reader_shim_ongoing(void)
{
    return reader_ongoing();
}

int reader_shim_register(void)
{
    return reader_register_slow();
}

int reader_shim_unregister(void)
{
    return reader_unregister();
}

bool reader_shim_registered(void)
{
    return reader_registered;
}

void reader_shim_wait(void)
{
    reader_wait();
}

uint64_t reader_shim_grace_periods(void)
{
    return reader_grace_periods();
}

void reader_shim_foreign_register(void)
{
    urcu_memb_register_thread();
}

void reader_shim_foreign_unregister(void)
{
    urcu_memb_unregister_thread();
}

void reader_shim_foreign_enter(void)
{
    urcu_memb_read_lock();
}

void reader_shim_foreign_exit(void)
{
    urcu_memb_read_unlock();
}

static void run(ReaderDeferred *deferred)
{
    Deferral *d = container_of(deferred, Deferral, deferred);

    d->fn(d->arg);
    free(d);
}

void reader_shim_defer(void (*fn)(void *arg), void *arg)
{
    Deferral *d = calloc(1, sizeof(*d));

    d->fn = fn;
    d->arg = arg;
    reader_defer(&d->deferred, run);
}

void reader_shim_publish(int *value)
{
    writer_publish(&published, value);
}

int *reader_shim_load(void)
{
    return reader_load(&published);
}
