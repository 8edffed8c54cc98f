/* SPDX-License-Identifier: MIT */
/*
 * compare.h - a live machine's views against the ranges recorded in the map that it was made from.
 */
#ifndef FLATVIEW_STRESS_COMPARE_H
#define FLATVIEW_STRESS_COMPARE_H

#include "machine.h"

/*
 * Every recorded view: its root, its ranges one by one with region, offset, flags and dirty mask, and who shares it:
 * spaces with the same recorded view have one FlatView, spaces with different ones have two. False with the first
 * difference in @buf. Not while another thread changes the machine.
 */
bool compare_views(const Machine *machine, char *buf, size_t len);

/* Does what flatview_diff() says turn @old_view into @new_view? */
bool compare_diff(FlatView *old_view, FlatView *new_view, char *buf, size_t len);

#endif
