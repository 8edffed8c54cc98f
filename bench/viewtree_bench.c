/* SPDX-License-Identifier: MIT */
/*
 * viewtree_bench.c - the tree alone: loading, the next version, look-ups; beside a sorted array where that is the rival.
 *
 *   viewtree_bench              everything, in nanoseconds
 *   viewtree_bench moves N      1,000 moves of one of N ranges, nothing else: for
 *                               valgrind --tool=callgrind --toggle-collect=move_one
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "view/viewtree.h"

#define SLOT UINT64_C(0x10000) /* addresses between two ranges; each takes half of them */

static MemoryRegion region;
static uint64_t gen = 1;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "viewtree_bench: %s\n", what);
        exit(1);
    }
}

static uint64_t next_random(void)
{
    static uint64_t x = 88172645463325252;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static FlatRange range_at(hwaddr first)
{
    FlatRange r = {.first = first, .last = first + SLOT / 2 - 1, .mr = &region};

    return r;
}

enum Order { ASCENDING, DESCENDING, RANDOM, BELOW_ANOTHER, ORDERS };
static const char *const order_names[ORDERS] = {"ascending", "descending", "random", "below another"};

static size_t *permutation(size_t n, enum Order order)
{
    size_t *perm = malloc(n * sizeof(*perm)), i;

    must(perm, "no memory");
    for (i = 0; i < n; i++) {
        perm[i] = order == DESCENDING ? n - 1 - i : i;
    }
    for (i = n - 1; order == RANDOM && i > 0; i--) {
        size_t j = next_random() % (i + 1), t = perm[i];

        perm[i] = perm[j];
        perm[j] = t;
    }
    return perm;
}

static ViewNode *load(size_t n, enum Order order, double *ret_ns, size_t *ret_n_ranges)
{
    size_t *perm = permutation(n, order), i;
    ViewEdit edit;
    double start;

    view_edit_begin(&edit, NULL, 0, ++gen, NULL);
    if (order == BELOW_ANOTHER) {
        FlatRange top = range_at(UINT64_MAX - SLOT);

        must(view_edit_fill(&edit, &top) == 0, "fill");
    }
    start = now();
    for (i = 0; i < n; i++) {
        FlatRange r = range_at(perm[i] * SLOT);

        must(view_edit_fill(&edit, &r) == 0, "fill");
    }
    *ret_ns = now() - start;
    free(perm);
    view_tree_check(edit.root, n + (order == BELOW_ANOTHER));
    *ret_n_ranges = edit.n_ranges;
    return edit.root;
}

static void free_tree(ViewNode *node)
{
    unsigned i;

    for (i = 0; node->level && i < node->n; i++) {
        free_tree(view_inner_children(node)[i]);
    }
    node->retire.free(&node->retire);
}

static void bench_load(size_t n)
{
    int order;

    for (order = 0; order < ORDERS; order++) {
        double ns, t;
        size_t n_ranges;
        ViewNode *root = load(n, (enum Order)order, &ns, &n_ranges);
        size_t bytes = view_tree_bytes(root);
        ViewEdit edit;

        view_edit_begin(&edit, root, n_ranges, ++gen, NULL);
        t = now();
        must(view_edit_clear(&edit, ADDR_RANGE_ALL) == 0 && !edit.root, "clear");
        t = now() - t;
        printf("load %zu %-14s %6.1f ns and %5.1f bytes a range, height %u; cleared at once %5.1f ns a range\n", n,
               order_names[order], ns / (double)n, (double)bytes / (double)n, root->level + 1, t / (double)n);
        edit.replaced = NULL;
        free_tree(root);
    }
}

/* What a commit that moves one region does to the tree: the old and the new place are cleared and painted again. */
static __attribute__((noinline)) void move_one(ViewEdit *edit, ViewNode *root, size_t n, hwaddr from, hwaddr to)
{
    FlatRange r = range_at(to);

    view_edit_begin(edit, root, n, ++gen, NULL);
    must(view_edit_clear(edit, (AddrRange){from, from + SLOT / 2 - 1}) == 0, "clear");
    must(view_edit_clear(edit, (AddrRange){to, to + SLOT / 2 - 1}) == 0, "clear");
    must(view_edit_fill(edit, &r) == 0, "fill");
    /* nobody reads here, so what was replaced can go at once: counted, as a commit pays for it sooner or later */
    while (edit->replaced) {
        RetireHead *head = edit->replaced;

        edit->replaced = head->next;
        head->free(head);
    }
}

static void bench_moves(size_t n, enum Order order, unsigned moves)
{
    double ns;
    size_t n_ranges, k;
    ViewNode *root = load(n, order, &ns, &n_ranges);
    hwaddr *at = malloc(n * sizeof(*at));
    uint64_t live;
    unsigned i;

    must(at, "no memory");
    for (k = 0; k < n; k++) {
        at[k] = k * SLOT;
    }
    live = mem_live_bytes();
    ns = now();
    for (i = 0; i < moves; i++) {
        hwaddr hole = n * SLOT + i * SLOT; /* the first is beyond all; then each goes where the last one left */
        ViewEdit edit;

        k = next_random() % n;
        hole = i ? region.bias : hole;
        move_one(&edit, root, n, at[k], hole);
        region.bias = at[k];
        at[k] = hole;
        root = edit.root;
    }
    ns = now() - ns;
    view_tree_check(root, n);
    printf("move one of %-8zu (loaded %-10s) %6.1f ns; the tree grew by %.1f %%, height %u\n", n, order_names[order],
           ns / moves, 100.0 * ((double)mem_live_bytes() - (double)live) / (double)live, root->level + 1);
    free(at);
    free_tree(root);
}

/* ---- look-ups ---- */

typedef struct Array {
    hwaddr *first;
    FlatRange *range;
    size_t n;
} Array;

static inline const FlatRange *array_find(const Array *array, hwaddr addr)
{
    const hwaddr *base = array->first;
    size_t n = array->n;
    const FlatRange *r;

    while (n > 1) {
        size_t half = n / 2;

        base = base[half] <= addr ? base + half : base;
        n -= half;
    }
    r = &array->range[base - array->first];
    return addr - r->first <= r->last - r->first ? r : NULL;
}

#define QUERIES (1u << 14)
#define COLD_QUERIES 1000
#define PASSES 7

static hwaddr query[QUERIES];
static uint8_t other_memory[1536 << 10]; /* what a guest touches between two exits */

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Best of some passes: independent look-ups, each waiting for the last, and (median) with the tree out of the caches. */
#define MEASURE(name, find, where)                                                                         \
    do {                                                                                                   \
        double independent = 1e9, dependent = 1e9, cold[COLD_QUERIES];                                     \
        uint64_t sum = 0, last = 0;                                                                        \
        unsigned pass, q, k;                                                                               \
        for (pass = 0; pass < PASSES; pass++) {                                                            \
            double t = now();                                                                              \
            for (q = 0; q < QUERIES; q++) {                                                                \
                sum += find((where), query[q])->offset;                                                    \
            }                                                                                              \
            t = (now() - t) / QUERIES;                                                                     \
            independent = t < independent ? t : independent;                                               \
            t = now();                                                                                     \
            for (q = 0; q < QUERIES; q++) {                                                                \
                last = find((where), query[(q + last) % QUERIES])->interposal;                                    \
            }                                                                                              \
            t = (now() - t) / QUERIES;                                                                     \
            dependent = t < dependent ? t : dependent;                                                     \
        }                                                                                                  \
        for (q = 0; q < COLD_QUERIES; q++) {                                                               \
            hwaddr addr = query[q * 7];                                                                    \
            double t;                                                                                      \
            for (k = 0; k < sizeof(other_memory); k += 64) {                                               \
                other_memory[k]++;                                                                         \
            }                                                                                              \
            __asm__ volatile("" ::: "memory");                                                             \
            t = now();                                                                                     \
            sum += find((where), addr)->offset;                                                            \
            __asm__ volatile("" : : "r"(sum) : "memory");                                                  \
            cold[q] = now() - t;                                                                           \
        }                                                                                                  \
        qsort(cold, COLD_QUERIES, sizeof(*cold), compare_double);                                          \
        must(sum + last > 0, "look-ups");                                                                  \
        printf("  %-6s %6.2f ns independent, %6.2f dependent, %4.0f cold\n", name, independent, dependent, \
               cold[COLD_QUERIES / 2]);                                                                    \
    } while (0)

static void bench_find(size_t n, enum Order order)
{
    size_t *perm = permutation(n, order), i;
    Array array = {aligned_alloc(64, (n * sizeof(hwaddr) + 63) & ~(size_t)63), aligned_alloc(64, n * sizeof(FlatRange)), n};
    ViewEdit edit;

    must(array.first && array.range, "no memory");
    view_edit_begin(&edit, NULL, 0, ++gen, NULL);
    for (i = 0; i < n; i++) {
        array.range[i] = range_at(i * SLOT);
        array.range[i].offset = 1;
        array.first[i] = i * SLOT;
    }
    for (i = 0; i < n; i++) {
        must(view_edit_fill(&edit, &array.range[perm[i]]) == 0, "fill");
    }
    for (i = 0; i < QUERIES; i++) {
        query[i] = next_random() % n * SLOT + next_random() % (SLOT / 2);
    }
    printf("find in %zu, loaded %s:\n", n, order_names[order]);
    MEASURE("array", array_find, &array);
    MEASURE("tree", view_find, edit.root);
    view_edit_abort(&edit);
    free(array.first);
    free(array.range);
    free(perm);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {16, 64, 256, 1024, 4096, 65536};
    size_t i;

    if (argc == 3 && !strcmp(argv[1], "moves")) {
        bench_moves(strtoul(argv[2], NULL, 0), ASCENDING, 1000);
        return 0;
    }
    bench_load(1000000);
    for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        bench_moves(sizes[i], ASCENDING, 100000);
        bench_moves(sizes[i], RANDOM, 100000);
    }
    for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        bench_find(sizes[i], ASCENDING);
        bench_find(sizes[i], RANDOM);
    }
    return 0;
}
