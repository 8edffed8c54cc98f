/* SPDX-License-Identifier: MIT */
/*
 * recorder.c - a listener that remembers.
 *
 * Invariant: events stand in the order in which callbacks ran; each is a value, its names the recorder's own copies, so that
 * neither a region's end nor a later commit changes what was recorded. Without memory for an event it is counted as lost,
 * and nothing after it is kept: a stream has no holes.
 * Established by: record(), under lock, in callbacks that run one at a time. Relied on by: whoever compares streams.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <flatview/accel/recorder.h>
#include <flatview/memory.h>

/* Each name once. */
typedef struct Name {
    struct Name *next;
    char text[];
} Name;

struct FlatviewRecorder {
    MemoryListener listener;
    bool registered;
    bool attached; /* detached has not been called yet: after stop() in a callback of a listener it comes later */
    bool doomed;   /* to be freed then */
    pthread_mutex_t lock; /* all below; inside the topology lock */
    FlatviewEvent *events;
    size_t n, cap, limit;
    uint64_t lost, commit;
    Name *names;
};

static const char *const event_names[] = {
    [FLATVIEW_EVENT_BEGIN] = "begin",
    [FLATVIEW_EVENT_PREPARE] = "prepare",
    [FLATVIEW_EVENT_ABORT] = "abort",
    [FLATVIEW_EVENT_COMMIT] = "commit",
    [FLATVIEW_EVENT_SPAN_DEL] = "span_del",
    [FLATVIEW_EVENT_SPAN_ADD] = "span_add",
    [FLATVIEW_EVENT_REGION_DEL] = "region_del",
    [FLATVIEW_EVENT_REGION_ADD] = "region_add",
    [FLATVIEW_EVENT_EVENTFD_DEL] = "eventfd_del",
    [FLATVIEW_EVENT_EVENTFD_ADD] = "eventfd_add",
    [FLATVIEW_EVENT_COALESCED_IO_DEL] = "coalesced_io_del",
    [FLATVIEW_EVENT_COALESCED_IO_ADD] = "coalesced_io_add",
    [FLATVIEW_EVENT_LOG_START] = "log_start",
    [FLATVIEW_EVENT_LOG_STOP] = "log_stop",
    [FLATVIEW_EVENT_LOG_SYNC] = "log_sync",
    [FLATVIEW_EVENT_LOG_CLEAR] = "log_clear",
    [FLATVIEW_EVENT_LOG_GLOBAL_START] = "log_global_start",
    [FLATVIEW_EVENT_LOG_GLOBAL_STOP] = "log_global_stop",
    [FLATVIEW_EVENT_LOG_GLOBAL_AFTER_SYNC] = "log_global_after_sync",
    [FLATVIEW_EVENT_DETACHED] = "detached",
};

const char *flatview_event_name(FlatviewEventKind kind)
{
    return (unsigned)kind < FLATVIEW_EVENT_COUNT ? event_names[kind] : NULL;
}

static FlatviewRecorder *listener_recorder(MemoryListener *listener)
{
    return (FlatviewRecorder *)((char *)listener - offsetof(FlatviewRecorder, listener));
}

static const char *own_name(FlatviewRecorder *recorder, const char *text)
{
    size_t size = strlen(text) + 1;
    Name *name;

    for (name = recorder->names; name; name = name->next) {
        if (strcmp(name->text, text) == 0) {
            return name->text;
        }
    }
    name = malloc(sizeof(*name) + size);
    if (!name) {
        return NULL;
    }
    memcpy(name->text, text, size);
    name->next = recorder->names;
    recorder->names = name;
    return name->text;
}

static bool room(FlatviewRecorder *recorder)
{
    size_t cap = recorder->cap ? 2 * recorder->cap : 64;
    FlatviewEvent *grown;

    if (recorder->lost || (recorder->limit && recorder->n == recorder->limit)) {
        return false;
    }
    if (recorder->n < recorder->cap) {
        return true;
    }
    grown = realloc(recorder->events, cap * sizeof(*grown));
    if (grown) {
        recorder->events = grown;
        recorder->cap = cap;
    }
    return grown;
}

static void record(FlatviewRecorder *recorder, FlatviewEvent event, const char *region)
{
    pthread_mutex_lock(&recorder->lock);
    recorder->commit += event.kind == FLATVIEW_EVENT_BEGIN;
    event.commit = recorder->commit;
    event.region = own_name(recorder, region);
    if (event.region && room(recorder)) {
        recorder->events[recorder->n++] = event;
    } else {
        recorder->lost++;
    }
    pthread_mutex_unlock(&recorder->lock);
}

static void record_phase(MemoryListener *listener, FlatviewEventKind kind)
{
    record(listener_recorder(listener), (FlatviewEvent){.kind = kind}, "");
}

static void record_span(MemoryListener *listener, FlatviewEventKind kind, const MemorySpan *span)
{
    FlatviewEvent event = {
        .kind = kind,
        .first = span->first,
        .last = span->last,
        .data = (uint64_t)span->n_old << 32 | (uint32_t)span->n_new,
    };

    record(listener_recorder(listener), event, "");
}

static FlatviewEvent section_event(FlatviewEventKind kind, const MemoryRegionSection *section)
{
    return (FlatviewEvent){
        .kind = kind,
        .first = section->offset_within_address_space,
        .last = section->last,
        .offset = section->offset_within_region,
        .ram = section->host,
        .readonly = section->readonly,
    };
}

static void record_section(MemoryListener *listener, FlatviewEventKind kind, const MemoryRegionSection *section)
{
    record(listener_recorder(listener), section_event(kind, section), memory_region_name(section->mr));
}

static void record_eventfd(MemoryListener *listener, FlatviewEventKind kind, const MemoryRegionSection *section,
                           bool match_data, uint64_t data)
{
    FlatviewEvent event = section_event(kind, section);

    event.match_data = match_data;
    event.data = data;
    record(listener_recorder(listener), event, memory_region_name(section->mr));
}

static void record_coalesced(MemoryListener *listener, FlatviewEventKind kind, const MemoryRegionSection *section,
                             hwaddr addr, hwaddr len)
{
    FlatviewEvent event = section_event(kind, section);

    event.offset += addr - event.first;
    event.first = addr;
    event.last = len == UINT64_MAX ? UINT64_MAX : addr + (len - 1);
    record(listener_recorder(listener), event, memory_region_name(section->mr));
}

static void record_log(MemoryListener *listener, FlatviewEventKind kind, const MemoryRegionSection *section,
                       unsigned old_mask, unsigned new_mask)
{
    FlatviewEvent event = section_event(kind, section);

    event.data = (uint64_t)old_mask << 32 | new_mask;
    record(listener_recorder(listener), event, memory_region_name(section->mr));
}

/* ---- the callbacks ---- */

static void on_begin(MemoryListener *listener)
{
    record_phase(listener, FLATVIEW_EVENT_BEGIN);
}

static int on_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    (void)delta;
    record_phase(listener, FLATVIEW_EVENT_PREPARE);
    return 0;
}

static void on_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    (void)delta;
    record_phase(listener, FLATVIEW_EVENT_ABORT);
}

static void on_commit(MemoryListener *listener)
{
    record_phase(listener, FLATVIEW_EVENT_COMMIT);
}

static void on_span_del(MemoryListener *listener, const MemorySpan *span)
{
    record_span(listener, FLATVIEW_EVENT_SPAN_DEL, span);
}

static void on_span_add(MemoryListener *listener, const MemorySpan *span)
{
    record_span(listener, FLATVIEW_EVENT_SPAN_ADD, span);
}

static void on_region_del(MemoryListener *listener, const MemoryRegionSection *section)
{
    record_section(listener, FLATVIEW_EVENT_REGION_DEL, section);
}

static void on_region_add(MemoryListener *listener, const MemoryRegionSection *section)
{
    record_section(listener, FLATVIEW_EVENT_REGION_ADD, section);
}

static void on_eventfd_del(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data,
                           int fd)
{
    (void)fd;
    record_eventfd(listener, FLATVIEW_EVENT_EVENTFD_DEL, section, match_data, data);
}

static void on_eventfd_add(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data,
                           int fd)
{
    (void)fd;
    record_eventfd(listener, FLATVIEW_EVENT_EVENTFD_ADD, section, match_data, data);
}

static void on_coalesced_io_del(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len)
{
    record_coalesced(listener, FLATVIEW_EVENT_COALESCED_IO_DEL, section, addr, len);
}

static void on_coalesced_io_add(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len)
{
    record_coalesced(listener, FLATVIEW_EVENT_COALESCED_IO_ADD, section, addr, len);
}

static void on_log_start(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    record_log(listener, FLATVIEW_EVENT_LOG_START, section, old_mask, new_mask);
}

static void on_log_stop(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    record_log(listener, FLATVIEW_EVENT_LOG_STOP, section, old_mask, new_mask);
}

static void on_log_sync(MemoryListener *listener, const MemoryRegionSection *section)
{
    record_section(listener, FLATVIEW_EVENT_LOG_SYNC, section);
}

static void on_log_clear(MemoryListener *listener, const MemoryRegionSection *section)
{
    record_section(listener, FLATVIEW_EVENT_LOG_CLEAR, section);
}

static int on_log_global_start(MemoryListener *listener)
{
    record_phase(listener, FLATVIEW_EVENT_LOG_GLOBAL_START);
    return 0;
}

static void on_log_global_stop(MemoryListener *listener)
{
    record_phase(listener, FLATVIEW_EVENT_LOG_GLOBAL_STOP);
}

static void on_log_global_after_sync(MemoryListener *listener)
{
    record_phase(listener, FLATVIEW_EVENT_LOG_GLOBAL_AFTER_SYNC);
}

static void discard(FlatviewRecorder *recorder)
{
    while (recorder->names) {
        Name *name = recorder->names;

        recorder->names = name->next;
        free(name);
    }
    free(recorder->events);
    pthread_mutex_destroy(&recorder->lock);
    free(recorder);
}

static void on_detached(MemoryListener *listener)
{
    FlatviewRecorder *recorder = listener_recorder(listener);

    record_phase(listener, FLATVIEW_EVENT_DETACHED);
    recorder->attached = false;
    if (recorder->doomed) {
        discard(recorder);
    }
}

/* ---- life ---- */

int flatview_recorder_new(AddressSpace *as, int priority, size_t limit, FlatviewRecorder **ret_recorder)
{
    FlatviewRecorder *recorder = as && ret_recorder ? calloc(1, sizeof(*recorder)) : NULL;
    int err;

    if (!recorder) {
        return as && ret_recorder ? -ENOMEM : -EINVAL;
    }
    recorder->limit = limit;
    recorder->listener = (MemoryListener){
        .name = "recorder",
        .priority = priority,
        .begin = on_begin,
        .prepare = on_prepare,
        .abort = on_abort,
        .commit = on_commit,
        .span_del = on_span_del,
        .span_add = on_span_add,
        .region_del = on_region_del,
        .region_add = on_region_add,
        .eventfd_del = on_eventfd_del,
        .eventfd_add = on_eventfd_add,
        .coalesced_io_del = on_coalesced_io_del,
        .coalesced_io_add = on_coalesced_io_add,
        .log_start = on_log_start,
        .log_stop = on_log_stop,
        .log_sync = on_log_sync,
        .log_clear = on_log_clear,
        .log_global_start = on_log_global_start,
        .log_global_stop = on_log_global_stop,
        .log_global_after_sync = on_log_global_after_sync,
        .detached = on_detached,
    };
    pthread_mutex_init(&recorder->lock, NULL);
    err = memory_listener_register(&recorder->listener, as);
    if (err < 0) {
        discard(recorder);
        return err;
    }
    recorder->registered = recorder->attached = true;
    *ret_recorder = recorder;
    return 0;
}

int flatview_recorder_stop(FlatviewRecorder *recorder)
{
    int err = recorder->registered ? memory_listener_unregister(&recorder->listener) : -EINVAL;

    if (err == 0) {
        recorder->registered = false;
    }
    return err;
}

int flatview_recorder_free(FlatviewRecorder *recorder)
{
    int err = recorder->registered ? flatview_recorder_stop(recorder) : 0;

    if (err == 0 && recorder->attached) {
        recorder->doomed = true;
    } else if (err == 0) {
        discard(recorder);
    }
    return err;
}

void flatview_recorder_clear(FlatviewRecorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    recorder->n = 0;
    recorder->lost = 0;
    pthread_mutex_unlock(&recorder->lock);
}

size_t flatview_recorder_count(FlatviewRecorder *recorder, uint64_t *ret_lost)
{
    size_t n;

    pthread_mutex_lock(&recorder->lock);
    n = recorder->n;
    if (ret_lost) {
        *ret_lost = recorder->lost;
    }
    pthread_mutex_unlock(&recorder->lock);
    return n;
}

int flatview_recorder_for_each(FlatviewRecorder *recorder, int (*fn)(const FlatviewEvent *event, void *arg), void *arg)
{
    size_t i;
    int ret = 0;

    pthread_mutex_lock(&recorder->lock);
    for (i = 0; i < recorder->n && ret == 0; i++) {
        ret = fn(&recorder->events[i], arg);
    }
    pthread_mutex_unlock(&recorder->lock);
    return ret;
}

/* ---- what others make of it ---- */

static int print_event(const FlatviewEvent *event, void *arg)
{
    FILE *file = arg;
    int n = fprintf(file, "%" PRIu64 " %s", event->commit, event_names[event->kind]);

    switch (event->kind) {
    case FLATVIEW_EVENT_SPAN_DEL:
    case FLATVIEW_EVENT_SPAN_ADD:
        n |= fprintf(file, " %016" PRIx64 "-%016" PRIx64 " old %u new %u", event->first, event->last,
                     (unsigned)(event->data >> 32), (unsigned)event->data);
        break;
    case FLATVIEW_EVENT_EVENTFD_DEL:
    case FLATVIEW_EVENT_EVENTFD_ADD:
        n |= fprintf(file, " %016" PRIx64 " size %u", event->first, (unsigned)(event->last - event->first + 1));
        if (event->match_data) {
            n |= fprintf(file, " data %#" PRIx64, event->data);
        }
        n |= fprintf(file, " %s+%#" PRIx64, event->region, event->offset);
        break;
    case FLATVIEW_EVENT_REGION_DEL:
    case FLATVIEW_EVENT_REGION_ADD:
    case FLATVIEW_EVENT_COALESCED_IO_DEL:
    case FLATVIEW_EVENT_COALESCED_IO_ADD:
    case FLATVIEW_EVENT_LOG_START:
    case FLATVIEW_EVENT_LOG_STOP:
    case FLATVIEW_EVENT_LOG_SYNC:
    case FLATVIEW_EVENT_LOG_CLEAR:
        n |= fprintf(file, " %016" PRIx64 "-%016" PRIx64 " %s %s+%#" PRIx64, event->first, event->last,
                     event->ram ? event->readonly ? "rom" : "ram" : "i/o", event->region, event->offset);
        if (event->kind == FLATVIEW_EVENT_LOG_START || event->kind == FLATVIEW_EVENT_LOG_STOP) {
            n |= fprintf(file, " clients %#x was %#x", (unsigned)event->data, (unsigned)(event->data >> 32));
        }
        break;
    default:
        break;
    }
    n |= fputc('\n', file) == EOF ? -1 : 0;
    return n < 0 ? -EIO : 0;
}

int flatview_recorder_print(FlatviewRecorder *recorder, FILE *file)
{
    return flatview_recorder_for_each(recorder, print_event, file);
}

static bool same(const FlatviewEvent *a, const FlatviewEvent *b, uint64_t shift)
{
    return a->kind == b->kind && a->commit + shift == b->commit && a->first == b->first && a->last == b->last &&
           a->offset == b->offset && a->ram == b->ram && a->readonly == b->readonly && a->match_data == b->match_data &&
           a->data == b->data && strcmp(a->region, b->region) == 0;
}

size_t flatview_recorder_compare(FlatviewRecorder *a, FlatviewRecorder *b)
{
    FlatviewRecorder *first = a < b ? a : b, *second = a < b ? b : a;
    size_t i, n, found = SIZE_MAX;

    if (a == b) {
        return SIZE_MAX;
    }
    pthread_mutex_lock(&first->lock);
    pthread_mutex_lock(&second->lock);
    n = a->n < b->n ? a->n : b->n;
    for (i = 0; i < n && found == SIZE_MAX; i++) {
        if (!same(&a->events[i], &b->events[i], b->events[0].commit - a->events[0].commit)) {
            found = i;
        }
    }
    if (found == SIZE_MAX && a->n != b->n) {
        found = n;
    }
    pthread_mutex_unlock(&second->lock);
    pthread_mutex_unlock(&first->lock);
    return found;
}
