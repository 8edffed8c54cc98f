/* SPDX-License-Identifier: MIT */
/*
 * viewtree_model_test.cc - the tree against maps that are too simple to be wrong.
 *
 * Two models: one entry for each address of a small space; and, for addresses from 0 to UINT64_MAX, one entry for each
 * gap between the boundaries that may occur. Both paint first come first served and are cut into maximal ranges.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "shim/viewtree_shim.h"

/* beside VtRange, where the algorithms look for it */
static bool operator==(const VtRange &a, const VtRange &b)
{
    return a.first == b.first && a.last == b.last && a.offset == b.offset && a.region == b.region && a.flags == b.flags;
}

namespace {

struct Cell {
    bool painted = false;
    uint32_t region = 0, flags = 0;
    uint64_t offset = 0; /* of the cell's first address */
};

/* Cell i stands for the addresses [edge[i], edge[i + 1] - 1]; the last one ends at UINT64_MAX. */
class Model
{
  public:
    std::vector<uint64_t> edge;
    std::vector<Cell> cell;

    explicit Model(std::vector<uint64_t> edges) : edge(std::move(edges)), cell(edge.size())
    {
    }

    uint64_t last_of(size_t i) const
    {
        return i + 1 < edge.size() ? edge[i + 1] - 1 : UINT64_MAX;
    }

    bool is_hole(size_t from, size_t to) const
    {
        return std::none_of(cell.begin() + from, cell.begin() + to + 1, [](const Cell &c) { return c.painted; });
    }

    void clear(size_t from, size_t to)
    {
        for (size_t i = from; i <= to; i++) {
            cell[i] = Cell();
        }
    }

    void fill(size_t from, size_t to, const VtRange &r)
    {
        for (size_t i = from; i <= to; i++) {
            if (!cell[i].painted) {
                cell[i] = Cell{true, r.region, r.flags, r.offset + (edge[i] - r.first)};
            }
        }
    }

    std::vector<VtRange> ranges() const
    {
        std::vector<VtRange> out;
        for (size_t i = 0; i < cell.size(); i++) {
            const Cell &c = cell[i];
            if (!c.painted) {
                continue;
            }
            if (!out.empty() && i && cell[i - 1].painted) {
                VtRange &p = out.back();
                if (p.region == c.region && p.flags == c.flags && p.offset + (edge[i] - p.first) == c.offset) {
                    p.last = last_of(i);
                    continue;
                }
            }
            out.push_back(VtRange{edge[i], last_of(i), c.offset, c.region, c.flags});
        }
        return out;
    }
};

std::vector<VtRange> walk(VtLine *line, unsigned version, uint64_t from = 0)
{
    std::vector<VtRange> out(vt_count(line, version) + 1);
    out.resize(vt_walk(line, version, from, out.data(), out.size()));
    return out;
}

struct Diff {
    std::vector<VtRange> gone, come;
    uint64_t at = 0;
    bool last_was_new = false, ordered = true;
};

int collect(const VtRange *old_range, const VtRange *new_range, void *arg)
{
    Diff *diff = static_cast<Diff *>(arg);
    const VtRange &r = old_range ? *old_range : *new_range;
    EXPECT_TRUE(!old_range != !new_range);
    diff->ordered &= r.first > diff->at || (r.first == diff->at && (!diff->last_was_new || !old_range));
    diff->at = r.first;
    diff->last_was_new = !old_range;
    (old_range ? diff->gone : diff->come).push_back(r);
    return 0;
}

std::vector<VtRange> minus(const std::vector<VtRange> &a, const std::vector<VtRange> &b, uint64_t first, uint64_t last)
{
    std::vector<VtRange> out;
    for (const VtRange &r : a) {
        auto same = std::lower_bound(b.begin(), b.end(), r.first,
                                     [](const VtRange &x, uint64_t addr) { return x.first < addr; });
        if (r.first <= last && r.last >= first && (same == b.end() || !(*same == r))) {
            out.push_back(r);
        }
    }
    return out;
}

void expect_diff(VtLine *line, unsigned a, unsigned b, const std::vector<VtRange> &ra, const std::vector<VtRange> &rb,
                 uint64_t first, uint64_t last)
{
    Diff diff;
    vt_diff(line, a, b, first, last, collect, &diff);
    EXPECT_TRUE(diff.ordered);
    EXPECT_TRUE(diff.gone == minus(ra, rb, first, last));
    EXPECT_TRUE(diff.come == minus(rb, ra, first, last));
}

struct Plan {
    unsigned seed;
    std::vector<uint64_t> edges;
    unsigned commits, changes; /* changes in a commit: 1 to this */
    unsigned span;             /* cells in one change: 1 to this */
    unsigned clears;           /* of 8 changes */
    unsigned regions, region_step;
};

/* check_every: how many changes between two looks at every node */
void run(const Plan &plan, unsigned check_every = 1)
{
    std::mt19937_64 random(plan.seed);
    Model model(plan.edges);
    std::vector<std::vector<VtRange>> history = {{}};
    VtLine *line = vt_new();
    const size_t n = plan.edges.size();

    for (unsigned c = 0; c < plan.commits; c++) {
        Model before = model;
        bool aborts = random() % 4 == 0;
        unsigned changes = 1 + random() % plan.changes;

        vt_begin(line, history.size() - 1);
        for (unsigned k = 0; k < changes; k++) {
            size_t from = random() % n, to = std::min<size_t>(n - 1, from + random() % plan.span);
            size_t hole = random() % n, hole_to = std::min<size_t>(n - 1, hole + random() % plan.span);
            ASSERT_EQ(vt_is_hole(line, plan.edges[hole], model.last_of(hole_to)), model.is_hole(hole, hole_to));
            if (random() % 32 == 0) {
                from = 0;
            }
            if (random() % 32 == 0) {
                to = n - 1;
            }
            if (random() % 4 == 0) {
                /* Cleared, and part of it painted: a few ranges, one, or none. */
                vt_clear_later(line, plan.edges[from], model.last_of(to));
                model.clear(from, to);
                for (unsigned paints = random() % 4; paints; paints--) {
                    size_t part = from + random() % (to - from + 1), part_to = part + random() % (to - part + 1);
                    VtRange r = {plan.edges[part], model.last_of(part_to), random() % 4 ? plan.edges[part] : random() % 1024,
                                 uint32_t(random() % plan.regions * plan.region_step), uint32_t(random() % 8 == 0)};
                    ASSERT_EQ(vt_fill(line, &r), 0);
                    model.fill(part, part_to, r);
                }
                ASSERT_EQ(vt_settle(line), 0);
            } else if (random() % 8 < plan.clears) {
                ASSERT_EQ(vt_clear(line, plan.edges[from], model.last_of(to)), 0);
                model.clear(from, to);
            } else {
                /* Often the offset is the address, so that pieces of one region join. */
                VtRange r = {plan.edges[from], model.last_of(to), random() % 4 ? plan.edges[from] : random() % 1024,
                             uint32_t(random() % plan.regions * plan.region_step), uint32_t(random() % 8 == 0)};
                ASSERT_EQ(vt_fill(line, &r), 0);
                model.fill(from, to, r);
            }
            if (k % check_every == 0) {
                vt_check_open(line);
            }
        }
        if (aborts) {
            vt_abort(line);
            model = before;
        } else {
            unsigned version = vt_commit(line);
            history.push_back(model.ranges());
            ASSERT_EQ(version, history.size() - 1);
            ASSERT_TRUE(walk(line, version) == history.back()) << "commit " << c;
        }
        /* point look-ups around one boundary */
        unsigned version = history.size() - 1;
        size_t i = random() % n;
        for (uint64_t addr : {plan.edges[i], plan.edges[i] - 1, model.last_of(i), random()}) {
            VtRange found, lower;
            size_t at = std::upper_bound(plan.edges.begin(), plan.edges.end(), addr) - plan.edges.begin() - 1;
            ASSERT_EQ(vt_find(line, version, addr, &found), model.cell[at].painted) << addr;
            if (model.cell[at].painted) {
                ASSERT_TRUE(found.first <= addr && addr <= found.last && found.region == model.cell[at].region);
            }
            auto next = std::find_if(history.back().begin(), history.back().end(),
                                     [addr](const VtRange &r) { return r.last >= addr; });
            ASSERT_EQ(vt_lower(line, version, addr, &lower), next != history.back().end());
            if (next != history.back().end()) {
                ASSERT_TRUE(lower == *next);
            }
        }
        /* old versions and differences */
        unsigned a = random() % history.size(), b = random() % history.size();
        ASSERT_TRUE(walk(line, a) == history[a]);
        ASSERT_TRUE(vt_lifetimes_hold(line, a));
        size_t from = random() % n, to = std::min<size_t>(n - 1, from + random() % plan.span);
        expect_diff(line, a, b, history[a], history[b], 0, UINT64_MAX);
        expect_diff(line, a, b, history[a], history[b], plan.edges[from], model.last_of(to));
    }
    for (unsigned v = 0; v < history.size(); v++) {
        vt_check(line, v);
        ASSERT_TRUE(walk(line, v) == history[v]) << "version " << v << " changed";
        ASSERT_TRUE(vt_lifetimes_hold(line, v));
        if (v) {
            expect_diff(line, v - 1, v, history[v - 1], history[v], 0, UINT64_MAX);
        }
    }
    EXPECT_EQ(vt_free(line), 0);
}

std::vector<uint64_t> dense(uint64_t n)
{
    std::vector<uint64_t> edges(n);
    for (uint64_t i = 0; i < n; i++) {
        edges[i] = i;
    }
    return edges;
}

std::vector<uint64_t> sparse(unsigned n, unsigned seed)
{
    std::mt19937_64 random(seed);
    std::vector<uint64_t> edges = {0, 1, UINT64_MAX, UINT64_MAX - 1, uint64_t(1) << 63, (uint64_t(1) << 63) - 1};
    while (edges.size() < n) {
        uint64_t e = random() >> (random() % 64);
        edges.push_back(e);
        edges.push_back(e + 1);
        edges.push_back(e - 1);
    }
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    return edges;
}

} // namespace

TEST(ViewtreeModel, SmallSpaceWithFewRegionsJoinsAndSplits)
{
    for (unsigned seed = 1; seed <= 6; seed++) {
        run(Plan{seed, dense(64), 300, 4, 24, 3, 2, 1});
    }
}

TEST(ViewtreeModel, BytewiseRangesFillManyLeaves)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        run(Plan{seed, dense(600), 150, 40, 3, 2, 7, 1});
    }
}

TEST(ViewtreeModel, WideClearsDropSubtrees)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        Plan plan{seed, dense(1500), 60, 200, 2, 0, 60, 1};
        plan.clears = 1;
        plan.span = seed % 2 ? 2 : 700;
        run(plan);
    }
}

TEST(ViewtreeModel, DeepTreesLoseAndRegainWholeSubtrees)
{
    for (unsigned seed = 1; seed <= 3; seed++) {
        Plan plan{seed, dense(30000), 24, 6000, 2, 0, 60, 1};
        plan.clears = seed - 1;
        plan.span = seed == 3 ? 300 : 2;
        run(plan, 1 + seed % 2 * 400);
    }
}

TEST(ViewtreeModel, SparseAddressesUpToBothEnds)
{
    for (unsigned seed = 1; seed <= 6; seed++) {
        run(Plan{seed, sparse(300, seed), 150, 30, 12, 3, 5, 2});
    }
}

TEST(ViewtreeModel, OneWholeSpaceRangeIsCutAndHealed)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        run(Plan{seed, sparse(120, 100 + seed), 200, 3, 120, 5, 1, 2});
    }
}
