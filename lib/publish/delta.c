/* SPDX-License-Identifier: MIT */
/*
 * delta.c - grouping the differences of two trees into spans.
 *
 * Invariant: a span is a maximal set of changed ranges, old and new together, that hang together by overlap. view_diff()
 * delivers changed ranges ascending by first address, so a span is complete as soon as a range begins beyond its end; and
 * as its ranges leave no gap between them, no unchanged range can lie inside.
 * Established by: add_range(). Relied on by: listeners, and deliver.c, which tells new from unchanged by spans alone.
 *
 * Sections and spans of all deltas of a commit go into three vectors. Pointers into them are made at the end, when they no
 * longer move; since everything was appended in order, counts are enough to find them again.
 */
#include "publish/delta.h"

#include <errno.h>

#include "base/mem.h"
#include "view/viewdiff.h"

#define KEEP_BYTES (1u << 20) /* of a vector, between commits */

typedef struct SectionVec {
    MemoryRegionSection *at;
    size_t n, cap;
} SectionVec;

static struct {
    SectionVec old_sections, new_sections;
    MemorySpan *spans;
    size_t n_spans, cap_spans;
    MemoryDelta **deltas;
    size_t n_deltas, cap_deltas;
} set;

static void section_vec_reset(SectionVec *vec)
{
    vec->n = 0;
    if (vec->cap * sizeof(*vec->at) > KEEP_BYTES) {
        mem_vec_free((void **)&vec->at, &vec->cap, sizeof(*vec->at));
    }
}

void delta_reset(void)
{
    if (!set.n_deltas) {
        return; /* all else is put in after the first of them */
    }
    section_vec_reset(&set.old_sections);
    section_vec_reset(&set.new_sections);
    set.n_spans = 0;
    set.n_deltas = 0;
    if (set.cap_spans * sizeof(*set.spans) > KEEP_BYTES) {
        mem_vec_free((void **)&set.spans, &set.cap_spans, sizeof(*set.spans));
    }
}

static int section_push(SectionVec *vec, const FlatRange *r)
{
    if (mem_vec_reserve((void **)&vec->at, &vec->cap, vec->n + 1, sizeof(*vec->at)) < 0) {
        return -ENOMEM;
    }
    vec->at[vec->n++] = flat_range_section(r);
    return 0;
}

static int add_range(const FlatRange *old_range, const FlatRange *new_range, void *arg)
{
    MemoryDelta *delta = arg;
    const FlatRange *r = old_range ? old_range : new_range;
    MemorySpan *span = delta->n_spans ? &set.spans[set.n_spans - 1] : NULL;

    if (section_push(old_range ? &set.old_sections : &set.new_sections, r) < 0) {
        return -ENOMEM;
    }
    if (!span || r->first > span->last) {
        if (mem_vec_reserve((void **)&set.spans, &set.cap_spans, set.n_spans + 1, sizeof(*set.spans)) < 0) {
            return -ENOMEM;
        }
        span = &set.spans[set.n_spans++];
        *span = (MemorySpan){.first = r->first, .last = r->last};
        delta->n_spans++;
    }
    span->last = r->last > span->last ? r->last : span->last;
    span->n_old += old_range != NULL;
    span->n_new += new_range != NULL;
    return 0;
}

int delta_add(MemoryDelta *delta, const ViewNode *old_root, const ViewNode *new_root, AddrRange window)
{
    if (mem_vec_reserve((void **)&set.deltas, &set.cap_deltas, set.n_deltas + 1, sizeof(*set.deltas)) < 0) {
        return -ENOMEM;
    }
    set.deltas[set.n_deltas++] = delta;
    delta->n_spans = 0;
    return view_diff_span(old_root, new_root, window, add_range, delta);
}

bool delta_any(void)
{
    return set.n_deltas;
}

void delta_finish(void)
{
    MemorySpan *span = set.spans;
    const MemoryRegionSection *old_section = set.old_sections.at, *new_section = set.new_sections.at;
    size_t i, j;

    for (i = 0; i < set.n_deltas; i++) {
        set.deltas[i]->spans = span;
        for (j = 0; j < set.deltas[i]->n_spans; j++, span++) {
            span->old_sections = old_section;
            span->new_sections = new_section;
            old_section += span->n_old;
            new_section += span->n_new;
        }
    }
}
