/* SPDX-License-Identifier: MIT */
#include "shim/lock_shim.h"

#include "base/lock.h"

static Lock locks[] = {
    [LOCK_SHIM_LOW] = LOCK_INITIALIZER(LOCK_RANK_TOPOLOGY, "low"),
    [LOCK_SHIM_LOW_TWIN] = LOCK_INITIALIZER(LOCK_RANK_TOPOLOGY, "low twin"),
    [LOCK_SHIM_HIGH] = LOCK_INITIALIZER(LOCK_RANK_LEAF, "high"),
};
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

bool lock_shim_checked(void)
{
#ifdef FLATVIEW_DEBUG_CHECKS
    return true;
#else
    return false;
#endif
}

void lock_shim_acquire(int which)
{
    lock_acquire(&locks[which]);
}

bool lock_shim_try(int which)
{
    return lock_try(&locks[which]);
}

void lock_shim_release(int which)
{
    lock_release(&locks[which]);
}

void lock_shim_assert_held(int which)
{
    lock_assert_held(&locks[which]);
}

void lock_shim_assert_not_held(int which)
{
    lock_assert_not_held(&locks[which]);
}

void lock_shim_assert_none_held(void)
{
    lock_assert_none_held();
}

void lock_shim_wait(int which)
{
    lock_wait(&locks[which], &cond);
}

void lock_shim_signal(void)
{
    pthread_cond_broadcast(&cond);
}
