/* SPDX-License-Identifier: MIT */
/*
 * input.h - a text file, line by line, from anywhere: a capture, an editor, an enemy.
 *
 * A line is handed out in place, NUL-terminated, free of control characters, so a reader may keep pointers into it for
 * as long as the Input lives and may print what it quotes.
 */
#ifndef FLATVIEW_STRESS_INPUT_H
#define FLATVIEW_STRESS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INPUT_MAX_BYTES ((size_t)128 << 20)
#define INPUT_MAX_LINE ((size_t)64 << 10)

/* What is wrong with a file, and where; line 0 is the file as a whole. */
typedef struct InputError {
    unsigned long line;
    char cause[240];
} InputError;

typedef struct Input {
    char *text; /* owned */
    size_t len;
    size_t next;        /* where the next line begins */
    unsigned long line; /* the number of the line handed out last */
} Input;

/* Set the error and return false, so that a reader can say `return input_fail(...)`. */
bool input_fail(InputError *err, unsigned long line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As input_fail(), for want of memory. */
bool input_no_memory(InputError *err, unsigned long line);

/* Print `PATH:LINE: CAUSE` to standard error. */
void input_complain(const char *path, const InputError *err);

bool input_open(Input *in, const char *path, InputError *err);
bool input_copy(Input *in, const char *text, size_t len, InputError *err);
void input_close(Input *in);

/* The next line without its newline; NULL at the end of the text and on errors, which set err->cause. */
char *input_line(Input *in, size_t *ret_len, InputError *err);

/*
 * The fields of one line, split by single spaces. @what names the field in the complaint.
 */
typedef struct Fields {
    char *at; /* the rest; NULL when the last field is gone */
    unsigned long line;
    InputError *err;
} Fields;

bool fields_word(Fields *f, const char *what, const char **ret);
bool fields_hex(Fields *f, const char *what, uint64_t max, uint64_t *ret);
bool fields_dec(Fields *f, const char *what, uint64_t max, uint64_t *ret);
/* Bytes in hex up to 10000000000000000, which is UINT64_MAX in *ret as in the library's API. UINT64_MAX itself, which
   the API cannot say, is refused. */
bool fields_size(Fields *f, const char *what, uint64_t *ret);
bool fields_int(Fields *f, const char *what, int32_t *ret);
bool fields_rest(Fields *f, const char *what, const char **ret);
bool fields_end(Fields *f);

/* Room for one more element of a growing array, elements of @size bytes; false without memory, the array unchanged. */
bool array_room(void **array, size_t n, size_t *room, size_t size);

#endif
