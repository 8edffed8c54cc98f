/* SPDX-License-Identifier: MIT */
/*
 * storm_calm.c - what watches the whole run, and how it ends.
 *
 * Invariant: after storm_calm() the library holds what it held before storm_watch(): every region, space and listener
 * of the storm is gone, every device released (R4), nothing retired or pinned is left, and memory is level. Anything
 * else is a violation. On the way, R2: the views pinned at the start are to the end what they were.
 *
 * Runs on the main thread; storm_check_pins() while the others storm.
 */
#include "storm_accel.h"

#include <stdlib.h>
#include <unistd.h>

#define MIRRORED_SPACES 3

/* Listeners, and the pins that last for the whole run. */
bool storm_watch(void)
{
    static const int priorities[] = { 5, 7, 2 };
    bool ok = pairs_init();

    for (unsigned i = 0; i < storm.n_spaces && ok; i++) {
        StormSpace *s = storm.spaces[i];

        ok = history_start(s) && refuser_start(&storm.refusers[i], s->as, (int)(i % 3) * 4);
        if (ok && i < MIRRORED_SPACES) {
            ok = mirror_start(&storm.mirrors[i][0], s->as, "by spans", MIRROR_BY_SPANS, priorities[i]) &&
                 mirror_start(&storm.mirrors[i][1], s->as, "by regions", MIRROR_BY_REGIONS, 12 - priorities[i]);
        }
        s->pinned = address_space_get_flatview(s->as);
        ok = ok && !sections_of(&s->pinned_sections, s->pinned);
    }
    return ok;
}

/* R2: a view that was pinned at the start is still, byte for byte, what it was. */
void storm_check_pins(void)
{
    char what[400];

    for (unsigned i = 0; i < storm.n_spaces; i++) {
        StormSpace *s = storm.spaces[i];

        if (!sections_match(&s->pinned_sections, s->pinned, what, sizeof(what))) {
            storm_violation("%s: the view pinned at the start has changed: %s", s->name, what);
        }
    }
}

static void demand_level(const char *what, uint64_t before, uint64_t after, uint64_t slack)
{
    if (after > before + slack) {
        storm_violation("%s: %llu before the storm, %llu after it", what, (unsigned long long)before,
                        (unsigned long long)after);
    }
}

bool storm_calm(void)
{
    MemoryStats end;
    bool ok = true;

    for (unsigned i = 0; i < storm.n_threads; i++) {
        StormThread *t = storm.threads[i];

        ok = (t->is_writer ? writer_go_home(t) == 0 : hot_unplug(t->own) == 0) && ok;
    }
    if (!ok) {
        storm_violation("what the storm moved does not go home");
    }
    storm_check_pins();
    accel_stop();
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        StormSpace *s = storm.spaces[i];

        audit_everything(storm.threads[0], s);
        if (i < MIRRORED_SPACES) {
            mirror_stop(&storm.mirrors[i][0]);
            mirror_stop(&storm.mirrors[i][1]);
        }
        ok = memory_listener_unregister(&storm.refusers[i]) == 0 && ok;
        ok = history_stop(s) && ok;
        flatview_unref(s->pinned);
        sections_free(&s->pinned_sections);
    }
    if (!ok) {
        storm_violation("a listener does not leave");
    }
    pairs_fini();
    /* What waits for readers is handed to a thread of the library's own, which may need a moment. */
    for (unsigned i = 0; i < 1000; i++) {
        memory_reclaim();
        memory_get_stats(&end);
        if (!hot_alive() && end.regions <= storm.start.regions && !end.retired_bytes &&
            end.pinned_bytes <= storm.start.pinned_bytes) {
            break;
        }
        usleep(10000);
    }
    if (hot_alive()) {
        storm_violation("%llu devices were never released", (unsigned long long)hot_alive());
    }
    demand_level("regions", storm.start.regions, end.regions, 0);
    demand_level("address spaces", storm.start.address_spaces, end.address_spaces, 0);
    demand_level("listeners", storm.start.listeners, end.listeners, 0);
    demand_level("retired bytes", 0, end.retired_bytes, 0);
    demand_level("pinned bytes", storm.start.pinned_bytes, end.pinned_bytes, 0);
    demand_level("live bytes", storm.start.live_bytes, end.live_bytes, storm.start.live_bytes / 4 + (1u << 20));
    return __atomic_load_n(&storm.violations, __ATOMIC_RELAXED) == 0;
}

void storm_teardown(void)
{
    accel_teardown();
    machine_fini(&storm.machine, NULL);
    hot_finish();
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        free(storm.spaces[i]);
    }
    storm_forget();
}
