/* SPDX-License-Identifier: MIT */
#include "shim/retire_shim.h"

#include <stdlib.h>

#include "base/reader.h"
#include "base/retire.h"

struct ShimLine {
    RetireLine line;
    ShimTold told;
    void *arg;
};

struct ShimObject {
    RetireCounted counted;
    ShimTold told;
    void *arg;
};

struct ShimVersion {
    RetirePin pin;
    ShimTold told;
    void *arg;
    uint64_t a, b;
};

static ShimVersion *current;

static void tell(ShimTold told, void *arg)
{
    if (told) {
        told(arg);
    }
}

static void line_free(RetireLine *line)
{
    ShimLine *l = container_of(line, ShimLine, line);

    tell(l->told, l->arg);
    free(l);
}

ShimLine *retire_shim_line_new(ShimTold told, void *arg)
{
    ShimLine *l = calloc(1, sizeof(*l));

    retire_line_init(&l->line, line_free);
    l->told = told;
    l->arg = arg;
    return l;
}

void retire_shim_line_unref(ShimLine *line)
{
    retire_line_unref(&line->line);
}

static RetireHead head_of(ShimLine *line, uint64_t birth, uint32_t bytes, void (*free_fn)(RetireHead *), uint32_t kind)
{
    return (RetireHead){
        .line = line ? &line->line : NULL, .birth = birth, .bytes = bytes, .free = free_fn, .kind = kind};
}

static void object_free(RetireHead *head)
{
    ShimObject *o = container_of(head, ShimObject, counted.head);

    tell(o->told, o->arg);
    free(o);
}

ShimObject *retire_shim_object_new(ShimLine *line, uint64_t birth, uint32_t bytes, ShimTold told, void *arg)
{
    ShimObject *o = calloc(1, sizeof(*o));

    o->counted.head = head_of(line, birth, bytes, object_free, RETIRE_OBJECT);
    o->told = told;
    o->arg = arg;
    return o;
}

ShimObject *retire_shim_counted_new(uint64_t birth, uint32_t bytes, ShimTold told, void *arg)
{
    ShimObject *o = retire_shim_object_new(NULL, birth, bytes, told, arg);

    o->counted.head.kind = RETIRE_COUNTED;
    return o;
}

void retire_shim_hold(ShimObject *object)
{
    retire_hold(&object->counted);
}

void retire_shim_unhold(ShimObject *object)
{
    retire_unhold(&object->counted);
}

void retire_shim_object_push(ShimObject *object, uint64_t death)
{
    object->counted.head.death = death;
    retire_push(&object->counted.head);
}

uint64_t retire_shim_object_ticket(const ShimObject *object)
{
    return object->counted.head.seq;
}

static void version_free(RetireHead *head)
{
    ShimVersion *v = container_of(container_of(head, RetirePin, head), ShimVersion, pin);

    tell(v->told, v->arg);
    v->a = 1; /* no longer equal, for whoever reads it too late and is not stopped by a sanitizer */
    v->b = 2;
    free(v);
}

ShimVersion *retire_shim_version_new(ShimLine *line, uint64_t gen, uint32_t bytes, ShimTold told, void *arg)
{
    ShimVersion *v = calloc(1, sizeof(*v));

    v->pin.head = head_of(line, gen, bytes, version_free, RETIRE_PIN);
    v->told = told;
    v->arg = arg;
    v->a = v->b = gen;
    return v;
}

void retire_shim_version_push(ShimVersion *version, uint64_t death)
{
    version->pin.head.death = death;
    retire_push(&version->pin.head);
}

void retire_shim_version_pin(ShimVersion *version)
{
    retire_pin(&version->pin);
}

void retire_shim_version_unpin(ShimVersion *version)
{
    retire_unpin(&version->pin);
}

bool retire_shim_version_is_whole(const ShimVersion *version)
{
    return version->a == version->b;
}

void retire_shim_publish(ShimVersion *version)
{
    writer_publish(&current, version);
}

ShimVersion *retire_shim_current(void)
{
    return reader_load(&current);
}

void retire_shim_flush(void)
{
    retire_flush();
}

bool retire_shim_over_limit(void)
{
    return retire_over_limit();
}

void retire_shim_help(void)
{
    retire_help();
}

int retire_shim_set_limit(uint64_t bytes, int policy)
{
    return retire_set_limit(bytes, policy);
}

int retire_shim_policy(void)
{
    return retire_policy();
}

bool retire_shim_is_done(uint64_t ticket)
{
    return retire_is_done(ticket);
}

void retire_shim_wait_done(uint64_t ticket)
{
    retire_wait_done(ticket);
}

bool retire_shim_releasing(void)
{
    return retire_releasing();
}

ShimStats retire_shim_stats(void)
{
    RetireStats s;

    retire_get_stats(&s);
    return (ShimStats){s.retired_bytes, s.retired_peak, s.pinned_bytes, s.helped};
}
