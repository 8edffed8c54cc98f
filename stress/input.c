/* SPDX-License-Identifier: MIT */
/*
 * input.c - text files that nobody vouches for.
 *
 * Invariant: what leaves here as a line is at most INPUT_MAX_LINE bytes of printable text or UTF-8, ended by a newline
 * in the file, and every number that leaves here is within the bounds its caller stated. So memory and time of a reader
 * are bounded by INPUT_MAX_BYTES, whatever counts the file claims.
 */
#include "input.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool input_fail(InputError *err, unsigned long line, const char *format, ...)
{
    va_list args;

    err->line = line;
    va_start(args, format);
    vsnprintf(err->cause, sizeof(err->cause), format, args);
    va_end(args);
    return false;
}

bool input_no_memory(InputError *err, unsigned long line)
{
    return input_fail(err, line, "out of memory");
}

void input_complain(const char *path, const InputError *err)
{
    if (err->line) {
        fprintf(stderr, "%s:%lu: %s\n", path, err->line, err->cause);
    } else {
        fprintf(stderr, "%s: %s\n", path, err->cause);
    }
}

bool input_open(Input *in, const char *path, InputError *err)
{
    FILE *file = fopen(path, "rb");
    size_t room = 0;
    bool ok = true;

    *in = (Input){0};
    if (!file) {
        return input_fail(err, 0, "%s", strerror(errno));
    }
    for (;;) {
        size_t got;

        if (in->len == room) {
            /* One byte beyond the limit is enough to know that the file is too long; pipes have no size to ask for. */
            size_t more = room ? 2 * room : (size_t)64 << 10;
            char *text = realloc(in->text, more);

            if (!text) {
                ok = input_no_memory(err, 0);
                break;
            }
            in->text = text;
            room = more;
        }
        got = fread(in->text + in->len, 1, room - in->len, file);
        in->len += got;
        if (in->len > INPUT_MAX_BYTES) {
            ok = input_fail(err, 0, "longer than %zu bytes", INPUT_MAX_BYTES);
            break;
        }
        if (got == 0) {
            if (ferror(file)) {
                ok = input_fail(err, 0, "%s", strerror(errno));
            }
            break;
        }
    }
    fclose(file);
    if (!ok) {
        input_close(in);
    }
    return ok;
}

bool input_copy(Input *in, const char *text, size_t len, InputError *err)
{
    *in = (Input){ .len = len };
    if (len > INPUT_MAX_BYTES) {
        return input_fail(err, 0, "longer than %zu bytes", INPUT_MAX_BYTES);
    }
    in->text = malloc(len + 1);
    if (!in->text) {
        return input_no_memory(err, 0);
    }
    memcpy(in->text, text, len);
    return true;
}

void input_close(Input *in)
{
    free(in->text);
    *in = (Input){0};
}

char *input_line(Input *in, size_t *ret_len, InputError *err)
{
    char *line = in->text + in->next, *end;
    size_t left = in->len - in->next;

    err->cause[0] = '\0';
    if (left == 0) {
        return NULL;
    }
    in->line++;
    end = memchr(line, '\n', left < INPUT_MAX_LINE + 1 ? left : INPUT_MAX_LINE + 1);
    if (!end && left > INPUT_MAX_LINE) {
        input_fail(err, in->line, "line longer than %zu bytes", INPUT_MAX_LINE);
        return NULL;
    }
    if (!end) {
        /* A file that was cut off inside its last name would otherwise read as whole. */
        input_fail(err, in->line, "cut off: no newline at the end");
        return NULL;
    }
    for (char *p = line; p < end; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            input_fail(err, in->line, "control character 0x%02x in column %zu", (unsigned char)*p,
                       (size_t)(p - line) + 1);
            return NULL;
        }
    }
    *end = '\0';
    in->next += (size_t)(end - line) + 1;
    *ret_len = (size_t)(end - line);
    return line;
}

bool fields_word(Fields *f, const char *what, const char **ret)
{
    char *word = f->at, *end;

    if (!word) {
        return input_fail(f->err, f->line, "%s is missing", what);
    }
    end = strchr(word, ' ');
    if (end == word || *word == '\0') {
        return input_fail(f->err, f->line, "%s is empty", what);
    }
    if (end) {
        *end = '\0';
        f->at = end + 1;
    } else {
        f->at = NULL;
    }
    *ret = word;
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool fields_hex(Fields *f, const char *what, uint64_t max, uint64_t *ret)
{
    const char *word;
    uint64_t value = 0;

    if (!fields_word(f, what, &word)) {
        return false;
    }
    for (const char *p = word; *p; p++) {
        int digit = hex_digit(*p);

        if (digit < 0) {
            return input_fail(f->err, f->line, "%s '%.40s' is not a hexadecimal number", what, word);
        }
        if (value >> 60) {
            return input_fail(f->err, f->line, "%s '%.40s' is out of range", what, word);
        }
        value = value << 4 | (unsigned)digit;
    }
    if (value > max) {
        return input_fail(f->err, f->line, "%s '%.40s' is out of range", what, word);
    }
    *ret = value;
    return true;
}

bool fields_size(Fields *f, const char *what, uint64_t *ret)
{
    static const char whole[] = "10000000000000000";
    const char *word = f->at;
    size_t len = word ? strcspn(word, " ") : 0;

    if (len == strlen(whole) && memcmp(word, whole, len) == 0) {
        *ret = UINT64_MAX;
        return fields_word(f, what, &word);
    }
    return fields_hex(f, what, UINT64_MAX - 1, ret);
}

/* @digits is @word without its sign. */
static bool decimal(Fields *f, const char *what, const char *word, const char *digits, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    for (const char *p = digits; *p || p == digits; p++) {
        if (*p < '0' || *p > '9') {
            return input_fail(f->err, f->line, "%s '%.40s' is not a decimal number", what, word);
        }
        if (value > max / 10 || max - value * 10 < (unsigned)(*p - '0')) {
            return input_fail(f->err, f->line, "%s '%.40s' is out of range", what, word);
        }
        value = value * 10 + (unsigned)(*p - '0');
    }
    *ret = value;
    return true;
}

bool fields_dec(Fields *f, const char *what, uint64_t max, uint64_t *ret)
{
    const char *word;

    return fields_word(f, what, &word) && decimal(f, what, word, word, max, ret);
}

bool fields_int(Fields *f, const char *what, int32_t *ret)
{
    const char *word;
    uint64_t value = 0;
    bool negative;

    if (!fields_word(f, what, &word)) {
        return false;
    }
    negative = word[0] == '-';
    if (!decimal(f, what, word, word + negative, (uint64_t)INT32_MAX + negative, &value)) {
        return false;
    }
    *ret = (int32_t)(negative ? -(int64_t)value : (int64_t)value);
    return true;
}

bool fields_rest(Fields *f, const char *what, const char **ret)
{
    if (!f->at) {
        return input_fail(f->err, f->line, "%s is missing", what);
    }
    *ret = f->at;
    f->at = NULL;
    return true;
}

bool fields_end(Fields *f)
{
    return !f->at || input_fail(f->err, f->line, "'%.40s' after the last field", f->at);
}

bool array_room(void **array, size_t n, size_t *room, size_t size)
{
    size_t more = *room ? *room + *room / 2 + 1 : 64;
    void *bigger;

    if (n < *room) {
        return true;
    }
    bigger = reallocarray(*array, more, size);
    if (!bigger) {
        return false;
    }
    *array = bigger;
    *room = more;
    return true;
}
