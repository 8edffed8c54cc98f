/* SPDX-License-Identifier: MIT */
/*
 * topo_fuzz.c - both readers of maps, fed with damaged ones.
 *
 * With -DFLATVIEW_LIBFUZZER it is a target for clang's -fsanitize=fuzzer. Otherwise it is its own driver: it damages
 * the files named on the command line, with a fixed seed, for so many rounds, so that every run does the same:
 *
 *     topo_fuzz ROUNDS FILE...
 *
 * The sanitizers find memory errors; here it is checked that what was accepted keeps the promises of topo.h.
 */
#include "mtree.h"
#include "topo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void demand(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "topo_fuzz: accepted, but %s\n", what);
        abort();
    }
}

static void check_regions(const TopoFile *t)
{
    for (size_t i = 0; i < t->n_regions; i++) {
        const TopoRegion *r = &t->regions[i];
        uint32_t above = TOPO_NONE, steps = 0;

        demand(r->container == TOPO_NONE || r->container < i, "a container stands after its contents");
        demand(r->container == TOPO_NONE || t->regions[r->container].alias == TOPO_NONE, "an alias contains something");
        for (uint32_t c = r->first_child; c != TOPO_NONE; above = c, c = t->regions[c].below) {
            demand(t->regions[c].container == i && t->regions[c].above == above, "siblings are not linked");
            demand(above == TOPO_NONE || t->regions[above].priority >= t->regions[c].priority, "priorities ascend");
        }
        demand(r->last_child == above, "the lowest child is not the last");
        for (uint32_t to = (uint32_t)i; to != TOPO_NONE; to = t->regions[to].alias) {
            demand(to < t->n_regions && steps++ <= TOPO_MAX_DEPTH, "aliases lead nowhere or in circles");
        }
        demand(topo_find(t, r->id) == i && r->name, "a region is not found by its id");
    }
}

static void check_rest(const TopoFile *t)
{
    for (size_t i = 0; i < t->n_spaces; i++) {
        demand(t->spaces[i].root < t->n_regions, "a space has no root");
        demand(t->spaces[i].view == TOPO_NONE || t->spaces[i].view < t->n_views, "a space has no view");
    }
    for (size_t i = 0; i < t->n_views; i++) {
        const TopoView *v = &t->views[i];

        demand(v->first_range + v->n_ranges <= t->n_ranges, "a view counts ranges that are not there");
        for (size_t k = v->first_range; k < v->first_range + v->n_ranges; k++) {
            const TopoRange *r = &t->ranges[k];

            demand(r->first <= r->last && (k == v->first_range || r[-1].last < r->first), "ranges overlap");
            demand(r->region < t->n_regions && t->regions[r->region].flags & TOPO_TERMINATES, "a range of no region");
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    bool (*const parsers[])(TopoFile *, const char *, size_t, InputError *) = { topo_parse, mtree_parse };

    for (unsigned i = 0; i < 2; i++) {
        TopoFile topo;
        InputError err = {0};

        if (parsers[i](&topo, (const char *)data, len, &err)) {
            check_regions(&topo);
            check_rest(&topo);
            topo_free(&topo);
        } else {
            demand(err.cause[0], "refused without a cause");
        }
    }
    return 0;
}

#ifndef FLATVIEW_LIBFUZZER

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static size_t line_start(const char *text, size_t at)
{
    while (at > 0 && text[at - 1] != '\n') {
        at--;
    }
    return at;
}

/* One damage of the kinds that files suffer and enemies invent. The text has room for twice its length. */
static size_t damage(char *text, size_t len, size_t room)
{
    static const char *const words[] = {
        "0", "-", "1", "-1", "10000000000000000", "ffffffffffffffff", "9223372036854775808", "18446744073709551616",
        "2147483648", "\n", " ", "  ", "etm---o--b", "region", "as", "view", "range", " @", "alias ", "[disabled]",
        "\0",
    };
    size_t at = (size_t)draw(len), from, n;
    const char *word;

    switch (draw(5)) {
    case 0: /* another byte */
        text[at] = (char)draw(256);
        return len;
    case 1: /* a line lost */
        from = line_start(text, at);
        n = strcspn(text + from, "\n") + 1;
        n = n < len - from ? n : len - from;
        memmove(text + from, text + from + n, len - from - n);
        return len - n;
    case 2: /* a line twice, elsewhere */
        from = line_start(text, at);
        n = strcspn(text + from, "\n") + 1;
        n = n < len - from ? n : len - from;
        at = line_start(text, (size_t)draw(len));
        if (len + n > room || n > 4096) {
            return len;
        } else {
            char copy[4096];

            memcpy(copy, text + from, n);
            memmove(text + at + n, text + at, len - at);
            memcpy(text + at, copy, n);
        }
        return len + n;
    case 3: /* a field replaced */
        while (at > 0 && text[at - 1] != ' ' && text[at - 1] != '\n') {
            at--;
        }
        from = at + strcspn(text + at, " \n");
        word = words[draw(sizeof(words) / sizeof(words[0]))];
        n = *word ? strlen(word) : 1;
        if (from > len || len - (from - at) + n > room) {
            return len;
        }
        memmove(text + at + n, text + from, len - from);
        memcpy(text + at, word, n);
        return len - (from - at) + n;
    default: /* cut off */
        return draw(8) ? len : at;
    }
}

static size_t load(const char *path, char **ret)
{
    FILE *file = fopen(path, "rb");
    size_t len;

    if (!file) {
        perror(path);
        exit(2);
    }
    *ret = calloc(1, (size_t)1 << 20);
    len = *ret ? fread(*ret, 1, ((size_t)1 << 19) - 1, file) : 0;
    fclose(file);
    return len;
}

int main(int argc, char **argv)
{
    long rounds = argc > 2 ? strtol(argv[1], NULL, 10) : 0;

    if (rounds <= 0) {
        fprintf(stderr, "usage: topo_fuzz ROUNDS FILE...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        char *whole, *text = calloc(1, ((size_t)1 << 20) + 1);
        size_t len = load(argv[i], &whole);

        for (long round = 0; text && len && round < rounds; round++) {
            size_t n = len;

            memcpy(text, whole, len);
            for (uint64_t k = draw(6) + (round > 0); k > 0 && n > 0; k--) {
                n = damage(text, n, (size_t)1 << 20);
                text[n] = '\0';
            }
            LLVMFuzzerTestOneInput((const uint8_t *)text, n);
        }
        free(whole);
        free(text);
    }
    printf("%ld rounds over %d files\n", rounds, argc - 2);
    return 0;
}

#endif
