/* SPDX-License-Identifier: MIT */
/*
 * pieces.c - what is mapped into one engine.
 *
 * Invariant: the pieces are disjoint, and are exactly what uc_mem_map_ptr() and uc_mmio_map() have put into the engine; each
 * is unmapped as it was mapped, because Unicorn forgets the offset of the right half of a split mapping.
 * Established by: the functions here, by whoever may change the engine (unicorn.h). Relied on by: engine.c, which computes
 * addresses from pieces.
 *
 * Cover is never wrong, whatever the map says there: its callbacks dispatch by address. So it may stay, and stays, where the
 * callback that is running came through it; memory that should be there waits (late) and is dispatched meanwhile. So does
 * memory that may be written, where a store that was not allowed is being dispatched: the store has been made by then.
 *
 * Memory that an engine refuses to map is dispatched through cover, and offered again. Memory that it refuses to unmap would
 * be wrong: that piece is stuck, and its engine is not run until it is gone (engine.c).
 *
 * The guest cannot do without cover, and comes there in the middle of a block, which cannot be begun again. So cover needs no
 * memory of ours that might not be there: other cover is given up for it.
 */
#include "accel/unicorn/unicorn.h"

#include <stdlib.h>
#include <string.h>

#define COVER_BYTES (UINT64_C(1) << 26) /* unmapping costs time for each page, so cover comes in pieces */

size_t pieces_lower(const FlatviewUnicornVcpu *vcpu, hwaddr addr)
{
    size_t low = 0, high = vcpu->n_pieces;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (vcpu->pieces[mid]->last < addr) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static void discard(FlatviewUnicornVcpu *vcpu, Piece *piece)
{
    if (vcpu->spare) {
        free(piece);
    } else {
        vcpu->spare = piece;
    }
}

static void forget(FlatviewUnicornVcpu *vcpu, size_t i)
{
    discard(vcpu, vcpu->pieces[i]);
    vcpu->n_pieces--;
    memmove(&vcpu->pieces[i], &vcpu->pieces[i + 1], (vcpu->n_pieces - i) * sizeof(*vcpu->pieces));
}

void pieces_forget_code(FlatviewUnicornVcpu *vcpu, hwaddr first, hwaddr last)
{
    size_t i;

    for (i = pieces_lower(vcpu, first); i < vcpu->n_pieces && vcpu->pieces[i]->first <= last; i++) {
        const Piece *piece = vcpu->pieces[i];

        if (piece->host) {
            uc_ctl_remove_cache(vcpu->engine, piece->first > first ? piece->first : first,
                                (piece->last < last ? piece->last : last) + 1);
        }
    }
}

/* Translated code is found again by where its memory lay inside Unicorn, and that is used again: it goes first. */
static bool unmap(FlatviewUnicornVcpu *vcpu, size_t i)
{
    Piece *piece = vcpu->pieces[i];
    uc_err err;

    pieces_forget_code(vcpu, piece->first, piece->last);
    err = uc_mem_unmap(vcpu->engine, piece->first, piece->last - piece->first + 1);
    if (err != UC_ERR_OK) {
        stat_refused(vcpu->mirror, err);
        vcpu->stuck_error = err;
        vcpu->n_stuck += !piece->stuck;
        piece->stuck = true;
        return false;
    }
    if (piece->host) {
        stat_add(&vcpu->mirror->stats.unmapped);
    }
    vcpu->n_stuck -= piece->stuck;
    forget(vcpu, i);
    return true;
}

static bool room(FlatviewUnicornVcpu *vcpu, size_t n)
{
    size_t cap = vcpu->cap_pieces ? 2 * vcpu->cap_pieces : 16;
    Piece **grown;

    if (vcpu->n_pieces + n <= vcpu->cap_pieces) {
        return true;
    }
    grown = realloc(vcpu->pieces, cap * sizeof(*grown));
    if (grown) {
        vcpu->pieces = grown;
        vcpu->cap_pieces = cap;
    }
    return grown;
}

/* Memory leaves room for cover. */
static Piece *new_piece(FlatviewUnicornVcpu *vcpu, bool cover)
{
    Piece *piece = room(vcpu, cover ? 1 : 2) ? malloc(sizeof(*piece)) : NULL;

    if (!piece) {
        stat_refused(vcpu->mirror, UC_ERR_NOMEM);
        if (cover && vcpu->n_pieces < vcpu->cap_pieces) {
            piece = vcpu->spare;
            vcpu->spare = NULL;
        }
    }
    return piece;
}

bool pieces_init(FlatviewUnicornVcpu *vcpu)
{
    vcpu->spare = malloc(sizeof(*vcpu->spare));
    return vcpu->spare && room(vcpu, 1);
}

/* Mapping memory without the right to write makes Unicorn ask the hook and then write all the same; only taking the right
   away afterwards makes it drop the store. Of a whole mapping, so that nothing is split. */
static uc_err map_memory(uc_engine *engine, const Piece *piece, uint64_t size)
{
    uc_err err = uc_mem_map_ptr(engine, piece->first, size, UC_PROT_ALL, piece->host);

    if (err == UC_ERR_OK && piece->readonly) {
        err = uc_mem_protect(engine, piece->first, size, UC_PROT_READ | UC_PROT_EXEC);
        if (err != UC_ERR_OK) {
            uc_mem_unmap(engine, piece->first, size);
        }
    }
    return err;
}

static bool map(FlatviewUnicornVcpu *vcpu, const Piece *what)
{
    uint64_t size = what->last - what->first + 1;
    size_t i = pieces_lower(vcpu, what->first);
    Piece *piece = new_piece(vcpu, !what->host);
    uc_err err;

    if (!piece) {
        return false;
    }
    *piece = *what;
    if (piece->host) {
        err = map_memory(vcpu->engine, piece, size);
    } else {
        err = uc_mmio_map(vcpu->engine, piece->first, size, engine_read, piece, engine_write, piece);
    }
    if (err != UC_ERR_OK) {
        stat_refused(vcpu->mirror, err);
        discard(vcpu, piece);
        return false;
    }
    memmove(&vcpu->pieces[i + 1], &vcpu->pieces[i], (vcpu->n_pieces - i) * sizeof(*vcpu->pieces));
    vcpu->pieces[i] = piece;
    vcpu->n_pieces++;
    stat_add(piece->host ? &vcpu->mirror->stats.mapped : &vcpu->mirror->stats.covers);
    return true;
}

void pieces_unmap_slot(FlatviewUnicornVcpu *vcpu, const Slot *slot)
{
    size_t i = pieces_lower(vcpu, slot->first);

    if (i < vcpu->n_pieces && vcpu->pieces[i]->first == slot->first && vcpu->pieces[i]->host) {
        unmap(vcpu, i);
    }
}

void pieces_map_slot(FlatviewUnicornVcpu *vcpu, const Slot *slot)
{
    Piece piece = {
        .vcpu = vcpu,
        .first = slot->first,
        .last = slot_last(slot),
        .host = slot->host,
        .readonly = slot->flags,
    };
    size_t i = pieces_lower(vcpu, slot->first);

    if (i < vcpu->n_pieces && vcpu->pieces[i]->first == slot->first && vcpu->pieces[i]->host && !vcpu->pieces[i]->stuck) {
        return;
    }
    if (vcpu->storing && !piece.readonly && vcpu->store_addr - piece.first < slot->size) {
        vcpu->late = true;
        return;
    }
    while (i < vcpu->n_pieces && vcpu->pieces[i]->first <= piece.last) {
        if (vcpu->pieces[i] == vcpu->active) {
            vcpu->late = true;
            return;
        }
        if (!unmap(vcpu, i)) {
            vcpu->missing = true;
            return;
        }
    }
    vcpu->missing |= !map(vcpu, &piece);
}

void pieces_settle(FlatviewUnicornVcpu *vcpu)
{
    const SlotTable *table = &vcpu->mirror->table;
    size_t i;

    for (i = vcpu->n_stuck ? vcpu->n_pieces : 0; i-- > 0;) {
        if (vcpu->pieces[i]->stuck) {
            unmap(vcpu, i);
        }
    }
    if (vcpu->late || vcpu->missing) {
        vcpu->late = vcpu->missing = false;
        for (i = 0; i < table->n; i++) {
            pieces_map_slot(vcpu, &table->at[i]);
        }
    }
}

static bool give_up_cover(FlatviewUnicornVcpu *vcpu)
{
    size_t i;

    for (i = 0; i < vcpu->n_pieces; i++) {
        if (!vcpu->pieces[i]->host && !vcpu->pieces[i]->stuck) {
            return unmap(vcpu, i);
        }
    }
    return false;
}

bool pieces_cover(FlatviewUnicornVcpu *vcpu, hwaddr addr)
{
    size_t i = pieces_lower(vcpu, addr);
    Piece piece = {
        .vcpu = vcpu,
        .first = addr & ~(hwaddr)(COVER_BYTES - 1),
        .last = addr | (COVER_BYTES - 1),
    };

    if (i < vcpu->n_pieces && vcpu->pieces[i]->first <= addr) {
        return false; /* something is mapped there after all */
    }
    if (i > 0 && vcpu->pieces[i - 1]->last >= piece.first) {
        piece.first = vcpu->pieces[i - 1]->last + 1;
    }
    if (i < vcpu->n_pieces && vcpu->pieces[i]->first <= piece.last) {
        piece.last = vcpu->pieces[i]->first - 1;
    }
    while (!map(vcpu, &piece)) {
        if (!give_up_cover(vcpu)) {
            return false;
        }
    }
    return true;
}

void pieces_fini(FlatviewUnicornVcpu *vcpu)
{
    while (vcpu->n_pieces) {
        if (!unmap(vcpu, vcpu->n_pieces - 1)) {
            forget(vcpu, vcpu->n_pieces - 1); /* the engine is its owner's again, who has been told (unicorn.h) */
        }
    }
    free(vcpu->spare);
    free(vcpu->pieces);
}
