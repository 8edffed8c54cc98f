/* SPDX-License-Identifier: MIT */
/*
 * commit.h - the outermost commit.
 */
#ifndef FLATVIEW_PUBLISH_COMMIT_H
#define FLATVIEW_PUBLISH_COMMIT_H

/* Under the topology lock, by txn_end() only. 0: published, everything replaced is queued for retirement. Otherwise an
   error, and readers and listeners are as before; the caller undoes the tree. */
int commit_run(void);

#endif
