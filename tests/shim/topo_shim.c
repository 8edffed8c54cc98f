/* SPDX-License-Identifier: MIT */
#include "shim/topo_shim.h"

#include "mtree.h"
#include "topo.h"

#include <stdio.h>

static bool parse(TopoFile *topo, bool mtree, const char *text, size_t len, InputError *err)
{
    return (mtree ? mtree_parse : topo_parse)(topo, text, len, err);
}

bool topo_shim_parse(bool mtree, const char *text, size_t len, char *complaint, size_t complaint_len)
{
    TopoFile topo;
    InputError err;

    if (!parse(&topo, mtree, text, len, &err)) {
        snprintf(complaint, complaint_len, "%lu: %s", err.line, err.cause);
        return false;
    }
    topo_free(&topo);
    return true;
}

bool topo_shim_regions(bool mtree, const char *text, size_t len, char *ret, size_t ret_len)
{
    static const char letters[] = "etmrvdoixb";
    TopoFile topo;
    InputError err;
    size_t at = 0;

    ret[0] = '\0';
    if (!parse(&topo, mtree, text, len, &err)) {
        return false;
    }
    for (size_t i = 0; i < topo.n_regions && at < ret_len; i++) {
        const TopoRegion *r = &topo.regions[i];
        char flags[sizeof(letters)] = "";

        for (unsigned k = 0, n = 0; letters[k]; k++) {
            if (r->flags >> k & 1) {
                flags[n++] = letters[k];
            }
        }
        at += (size_t)snprintf(ret + at, ret_len - at, "%s %s %s %s\n", r->name, flags,
                               r->container == TOPO_NONE ? "-" : topo.regions[r->container].name,
                               r->alias == TOPO_NONE ? "-" : topo.regions[r->alias].name);
    }
    topo_free(&topo);
    return true;
}
