/* SPDX-License-Identifier: MIT */
/*
 * memory_transaction.c - the public face of publish/transaction.c, which owns the invariant.
 */
#include <flatview/memory_transaction.h>

#include "publish/transaction.h"

int memory_transaction_begin(void)
{
    return txn_begin();
}

int memory_transaction_commit(void)
{
    return txn_end();
}

void memory_transaction_abort(void)
{
    txn_abort();
}

unsigned memory_transaction_depth(void)
{
    return txn_depth;
}
