/* SPDX-License-Identifier: MIT */
/*
 * grace.c - tickets of grace periods.
 *
 * Invariant: ended <= begun, underway <= begun. A ticket is ended if it is at most ended: a grace period that began after it was
 * taken is over. While queued, a grace period is under way that covers the tickets up to underway. One taken meanwhile needs
 * the next, because readers may have entered between the begin of this one and the ticket.
 * Established by: the functions here, under the lock. Relied on by: topology/dirty_log.c.
 */
#include "base/grace.h"

#include "base/lock.h"
#include "base/reader.h"

static Lock grace_lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "grace");
static uint64_t begun, underway; /* guarded by it */
static bool queued;              /* likewise */
static uint64_t ended;           /* written under it, read anywhere */
static ReaderDeferred deferred;

/* Pairs with grace_ended(): what sections of before have stored, before they are said to be over. */
static void set_ended(uint64_t ticket)
{
    if (ticket > ended) {
        __atomic_store_n(&ended, ticket, __ATOMIC_RELEASE);
    }
}

static void passed(ReaderDeferred *self)
{
    bool again;

    lock_acquire(&grace_lock);
    set_ended(underway);
    underway = begun;
    again = ended < begun;
    queued = again;
    lock_release(&grace_lock);
    if (again) {
        reader_defer(self, passed);
    }
}

uint64_t grace_begin(void)
{
    uint64_t ticket;
    bool start;

    lock_acquire(&grace_lock);
    ticket = ++begun;
    start = !queued;
    if (start) {
        queued = true;
        underway = begun;
    }
    lock_release(&grace_lock);
    if (start) {
        reader_defer(&deferred, passed);
    }
    return ticket;
}

bool grace_ended(uint64_t ticket)
{
    return __atomic_load_n(&ended, __ATOMIC_ACQUIRE) >= ticket;
}

void grace_wait(void)
{
    uint64_t ticket;

    lock_assert_none_held();
    lock_acquire(&grace_lock);
    ticket = begun;
    lock_release(&grace_lock);
    if (!grace_ended(ticket)) {
        reader_wait();
        lock_acquire(&grace_lock);
        set_ended(ticket);
        lock_release(&grace_lock);
    }
}
