/* SPDX-License-Identifier: MIT */
/*
 * memory_text.h - the map as QEMU's monitor prints it.
 */
#ifndef FLATVIEW_MEMORY_TEXT_H
#define FLATVIEW_MEMORY_TEXT_H

#include <stdio.h>

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/**
 * memory_print_tree() - all address spaces and the alias targets they lead to, as `info mtree`
 * @show_disabled: as `info mtree -D`
 *
 * Context: any thread but a listener callback (-EBUSY). Locking: the topology lock. Owners are not printed.
 * Return:  0, -ENOMEM, -EIO if @out reports an error (it is not flushed: what is in its buffer has not failed yet),
 *          -E2BIG if regions lie within regions, or aliases lead to aliases, more than 1024 deep; what was printed until
 *          then stands.
 * Since:   0.1, as all here.
 */
FLATVIEW_API int memory_print_tree(FILE *out, bool show_disabled);

/** memory_print_flatviews() - all current views with the spaces that share them, as `info mtree -f`; order of creation. */
FLATVIEW_API int memory_print_flatviews(FILE *out);

/** flatview_print() - the ranges of one view in the same form. @view pinned or in a read section. */
FLATVIEW_API int flatview_print(const FlatView *view, FILE *out);

FLATVIEW_END_DECLS

#endif
