/* SPDX-License-Identifier: MIT */
/*
 * coalesced_source.c - accelerators that collect coalesced writes in a ring of their own, such as KVM's.
 *
 * Invariant: a flush asks each source that is registered before it looks into the library's rings: so who must see a write finds it
 * there, also if he is a thread that never was in the guest. A source is asked inside the read section of the flush, and
 * unregistered by taking it from the list, then waiting for sections to end.
 * Established by: coalesced_collect(), coalesced_source_remove(). Relied on by: coalesced.c. Lock: the list's, for changes.
 */
#include "access/coalesced.h"

#include <errno.h>

#include "base/lock.h"
#include "base/reader.h"
#include "publish/transaction.h"

static Lock lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "coalesced sources");
static MemoryCoalescedSource *first;

bool coalesced_collect(void)
{
    MemoryCoalescedSource *source = reader_load(&first);
    bool more = false;

    for (; __builtin_expect(source != NULL, 0); source = reader_load(&source->next)) {
        more |= source->collect(source);
    }
    return more;
}

int coalesced_source_add(MemoryCoalescedSource *source)
{
    MemoryCoalescedSource *other;

    lock_acquire(&lock);
    for (other = first; other && other != source; other = other->next) {
    }
    if (!other) {
        source->next = first;
        writer_publish(&first, source);
    }
    lock_release(&lock);
    return other ? -EINVAL : 0;
}

int coalesced_source_remove(MemoryCoalescedSource *source)
{
    MemoryCoalescedSource **at;
    bool found;

    if (reader_ongoing() || txn_holds_lock()) {
        return -EDEADLK;
    }
    lock_acquire(&lock);
    for (at = &first; *at && *at != source; at = &(*at)->next) {
    }
    found = *at;
    if (found) {
        writer_publish(at, source->next); /* its own next stays, for who stands on it */
    }
    lock_release(&lock);
    if (found) {
        reader_wait();
    }
    return found ? 0 : -EINVAL;
}
