/* SPDX-License-Identifier: MIT */
/*
 * Random trees, changed at random, against a resolver that follows the visibility rules address by address.
 *
 * The model keeps its own copy of the tree and knows nothing of spans, views or B+trees: for one address it walks down,
 * topmost child first, as docs/devel/memory.rst of QEMU puts it. All places and sizes are multiples of a unit, so asking
 * once per unit tells everything, and ranges follow by joining neighbours. With a unit of 2^59 the 32 units are the whole
 * of a 64-bit space, so the same trees also test its upper end.
 *
 * After every transaction - committed, aborted, or refused by a listener - every address space is compared with the model,
 * now and then with a rendering from nothing, and with two mirrors that only ever heard of events.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include <flatview/memory.h>

namespace {

constexpr unsigned UNITS = 32;

uint64_t nothing_read(MemoryRegion *, hwaddr, unsigned)
{
    return 0;
}

void nothing_write(MemoryRegion *, hwaddr, uint64_t, unsigned)
{
}

MemoryRegionOps make_ops()
{
    MemoryRegionOps o = {};
    o.read = nothing_read;
    o.write = nothing_write;
    o.endianness = MEMORY_LITTLE_ENDIAN;
    o.valid.min_access_size = o.impl.min_access_size = 1;
    o.valid.max_access_size = o.impl.max_access_size = 8;
    return o;
}

const MemoryRegionOps ops = make_ops();

/* What of a region a transaction can change; places and sizes in units. */
struct State {
    struct Node *parent = nullptr;
    std::vector<struct Node *> children;
    unsigned addr = 0, size = 0, alias_offset = 0;
    int priority = 0;
    uint64_t order = 0;
    bool enabled = true, readonly = false, nonvolatile = false, romd = true;
};

/* A region as the model sees it. */
struct Node : State {
    MemoryRegion mr;
    bool container = false, rom_device = false;
    Node *alias = nullptr;
};

struct Range {
    hwaddr first, last;
    const MemoryRegion *mr;
    hwaddr offset;
    bool readonly, nonvolatile, romd;
    bool operator==(const Range &o) const
    {
        return first == o.first && last == o.last && mr == o.mr && offset == o.offset && readonly == o.readonly &&
               nonvolatile == o.nonvolatile && romd == o.romd;
    }
    /* o goes on where this one ends */
    bool joins(const Range &o) const
    {
        return last + 1 == o.first && mr == o.mr && offset + (o.first - first) == o.offset && readonly == o.readonly &&
               nonvolatile == o.nonvolatile && romd == o.romd;
    }
};

std::ostream &operator<<(std::ostream &out, const Range &r)
{
    return out << std::hex << r.first << "-" << r.last << " " << memory_region_name(r.mr) << " @" << r.offset
               << (r.readonly ? " ro" : "") << (r.nonvolatile ? " nv" : "") << (r.romd ? "" : " !romd") << std::dec;
}

Range range_of(const MemoryRegionSection *s)
{
    return {s->offset_within_address_space, s->last, s->mr, s->offset_within_region, s->readonly, s->nonvolatile,
            s->romd};
}

std::vector<Range> ranges_of(const FlatView *view)
{
    std::vector<Range> out;
    flatview_for_each_range(
        view, 0, UINT64_MAX,
        [](const MemoryRegionSection *s, void *arg) {
            static_cast<std::vector<Range> *>(arg)->push_back(range_of(s));
            return 0;
        },
        &out);
    EXPECT_EQ(out.size(), flatview_count(view));
    return out;
}

struct Mirror {
    MemoryListener listener;
    std::map<hwaddr, Range> ranges;
    const bool *refuse;
    int open;
};

Mirror *mirror_of(MemoryListener *l)
{
    return reinterpret_cast<Mirror *>(l); /* its first member */
}

void mirror_add(Mirror *m, const MemoryRegionSection *s)
{
    Range r = range_of(s);
    auto at = m->ranges.lower_bound(r.first);
    EXPECT_TRUE(at == m->ranges.end() || at->second.first > r.last) << r << " added over " << at->second;
    EXPECT_TRUE(at == m->ranges.begin() || std::prev(at)->second.last < r.first) << r << " added over one before";
    m->ranges[r.first] = r;
}

void mirror_del(Mirror *m, const MemoryRegionSection *s)
{
    Range r = range_of(s);
    auto at = m->ranges.find(r.first);
    ASSERT_TRUE(at != m->ranges.end() && at->second == r) << "removed but not there: " << r;
    m->ranges.erase(at);
}

class Machine {
public:
    Machine(unsigned seed, hwaddr unit_) : rng(seed), unit(unit_)
    {
        for (unsigned i = 0; i < 26; i++) {
            make(i);
        }
        for (unsigned i = 0; i < 3; i++) {
            EXPECT_EQ(0, address_space_init(&spaces[i], &nodes[i].mr, "space"));
            for (unsigned j = 0; j < 2; j++) {
                mirrors[i * 2 + j].reset(new Mirror());
                listen(i, j);
            }
        }
    }

    ~Machine()
    {
        for (auto &mirror : mirrors) {
            EXPECT_EQ(0, memory_listener_unregister(&mirror->listener));
            EXPECT_TRUE(mirror->ranges.empty()) << "unregistering replays the exact inverse";
        }
        for (auto &as : spaces) {
            EXPECT_EQ(0, address_space_destroy(&as, nullptr));
        }
        for (auto &n : nodes) {
            if (n.parent) {
                EXPECT_EQ(0, memory_region_del_subregion(&n.parent->mr, &n.mr));
            }
        }
        for (auto n = nodes.rbegin(); n != nodes.rend(); ++n) {
            EXPECT_EQ(0, memory_region_destroy(&n->mr)); /* aliases come after their targets */
        }
        EXPECT_EQ(0, memory_reclaim());
    }

    void step()
    {
        std::vector<State> before = save();
        unsigned n = 1 + rng() % 6, fate = rng() % 10;
        bool alone = n == 1 && fate >= 4;
        int err = 0;

        refuse = fate == 0;
        if (!alone) {
            ASSERT_EQ(0, memory_transaction_begin());
        }
        for (unsigned i = 0; i < n; i++) {
            err = change();
            if (!alone && rng() % 8 == 0) {
                nested();
            }
            if (!alone && rng() % 8 == 0) {
                staged();
            }
        }
        if (!alone && fate == 1) {
            memory_transaction_abort();
            restore(before);
        } else {
            if (!alone) {
                err = memory_transaction_commit();
            }
            if (err < 0) {
                ASSERT_TRUE((refuse && err == -ENOSPC) || err == -E2BIG) << err;
                refused += err == -ENOSPC;
                restore(before);
            }
        }
        refuse = false;
        check();
    }

    unsigned refused = 0;

private:
    void make(unsigned i)
    {
        nodes.emplace_back();
        Node &n = nodes.back();
        char name[16];
        unsigned kind = i < 3 ? 0 : rng() % 10;

        snprintf(name, sizeof(name), "r%u", i);
        n.size = i < 3 ? UNITS : size();
        if (kind < 4) {
            n.container = true;
            EXPECT_EQ(0, memory_region_init(&n.mr, name, bytes(n.size)));
        } else if (kind == 4 && unit == 1) {
            n.rom_device = true;
            n.size = UNITS; /* so that it may be given any size later */
            EXPECT_EQ(0, memory_region_init_rom_device(&n.mr, &ops, name, bytes(n.size)));
        } else if (kind < 7) {
            EXPECT_EQ(0, memory_region_init_io(&n.mr, &ops, name, bytes(n.size)));
        } else {
            n.alias = &nodes[rng() % i];
            n.alias_offset = rng() % 3 ? rng() % UNITS : 0;
            n.size = rng() % 2 ? UNITS : n.size;
            EXPECT_EQ(0, memory_region_init_alias(&n.mr, name, &n.alias->mr, n.alias_offset * unit, bytes(n.size)));
        }
    }

    void listen(unsigned i, unsigned j)
    {
        Mirror *m = mirrors[i * 2 + j].get();

        m->refuse = &refuse;
        m->listener.priority = (int)(rng() % 3);
        m->listener.begin = [](MemoryListener *l) { mirror_of(l)->open++; };
        m->listener.prepare = [](MemoryListener *l, const MemoryDelta *delta) {
            for (size_t k = 0; k < delta->n_spans; k++) {
                const MemorySpan *s = &delta->spans[k];
                EXPECT_LE(s->first, s->last);
                EXPECT_TRUE(s->n_old + s->n_new > 0);
                EXPECT_TRUE(k == 0 || delta->spans[k - 1].last < s->first);
            }
            if (*mirror_of(l)->refuse) {
                mirror_of(l)->open--;
                return -ENOSPC;
            }
            EXPECT_EQ(-EBUSY, memory_transaction_begin());
            return 0;
        };
        m->listener.abort = [](MemoryListener *l, const MemoryDelta *) { mirror_of(l)->open--; };
        m->listener.commit = [](MemoryListener *l) { EXPECT_EQ(0, --mirror_of(l)->open); };
        if (j == 0) {
            m->listener.span_del = [](MemoryListener *l, const MemorySpan *s) {
                for (size_t k = 0; k < s->n_old; k++) {
                    mirror_del(mirror_of(l), &s->old_sections[k]);
                }
            };
            m->listener.span_add = [](MemoryListener *l, const MemorySpan *s) {
                for (size_t k = 0; k < s->n_new; k++) {
                    mirror_add(mirror_of(l), &s->new_sections[k]);
                }
            };
        } else {
            m->listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) {
                mirror_del(mirror_of(l), s);
            };
            m->listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
                mirror_add(mirror_of(l), s);
            };
            m->listener.region_nop = [](MemoryListener *l, const MemoryRegionSection *s) {
                auto at = mirror_of(l)->ranges.find(s->offset_within_address_space);
                EXPECT_TRUE(at != mirror_of(l)->ranges.end() && at->second == range_of(s));
            };
        }
        EXPECT_EQ(0, memory_listener_register(&m->listener, &spaces[i]));
    }

    unsigned size()
    {
        return rng() % 12 == 0 ? 0 : rng() % 6 == 0 ? UNITS : 1 + rng() % 12;
    }

    uint64_t bytes(unsigned units) const
    {
        return units == UNITS && unit != 1 ? UINT64_MAX : units * unit;
    }

    /* A root is painted at its own offset, so a small space can reach beyond its size. */
    unsigned end() const
    {
        return unit == 1 ? 2 * UNITS : UNITS;
    }

    std::vector<State> save() const
    {
        return std::vector<State>(nodes.begin(), nodes.end());
    }

    void restore(const std::vector<State> &states)
    {
        for (size_t i = 0; i < states.size(); i++) {
            static_cast<State &>(nodes[i]) = states[i];
        }
    }

    int add(Node &parent, Node &n)
    {
        unsigned addr = rng() % UNITS;
        int priority = (int)(rng() % 4) - 1;
        int err = memory_region_add_subregion_overlap(&parent.mr, addr * unit, &n.mr, priority);

        if (n.parent || &parent == &n || parent.alias) {
            EXPECT_TRUE(err == -EBUSY || err == -EINVAL) << err;
            return 0;
        }
        if (err == -ELOOP) {
            return 0;
        }
        n.parent = &parent;
        n.addr = addr;
        n.priority = priority;
        n.order = ++next_order;
        parent.children.push_back(&n);
        return err;
    }

    int del(Node &n)
    {
        Node *parent = n.parent;
        int err = memory_region_del_subregion(parent ? &parent->mr : &nodes[0].mr, &n.mr);

        if (!parent) {
            EXPECT_EQ(-EINVAL, err);
            return 0;
        }
        parent->children.erase(std::find(parent->children.begin(), parent->children.end(), &n));
        n.parent = nullptr;
        return err;
    }

    /* One mutator. What it returned: outside a transaction also what the commit returned. */
    int change()
    {
        std::vector<State> before = save();
        Node &n = nodes[rng() % nodes.size()];
        int err = 0;

        switch (rng() % 12) {
        case 0:
        case 1:
        case 2:
            err = add(nodes[rng() % nodes.size()], n);
            break;
        case 3:
            err = del(n);
            break;
        case 4:
        case 5:
            n.addr = rng() % UNITS;
            err = memory_region_set_address(&n.mr, n.addr * unit);
            break;
        case 6:
            n.size = size();
            err = memory_region_set_size(&n.mr, bytes(n.size));
            break;
        case 7:
        case 8:
            n.enabled = rng() % 3;
            err = memory_region_set_enabled(&n.mr, n.enabled);
            break;
        case 9:
            if (!n.alias) {
                EXPECT_EQ(-EINVAL, memory_region_set_alias_offset(&n.mr, 0));
                return 0;
            }
            n.alias_offset = rng() % 2 ? rng() % UNITS : 0;
            err = memory_region_set_alias_offset(&n.mr, n.alias_offset * unit);
            break;
        case 10:
            n.readonly = rng() % 2;
            err = memory_region_set_readonly(&n.mr, n.readonly);
            break;
        default:
            if (n.rom_device) {
                n.romd = rng() % 2;
                err = memory_region_rom_device_set_romd(&n.mr, n.romd);
            } else {
                n.nonvolatile = rng() % 2;
                err = memory_region_set_nonvolatile(&n.mr, n.nonvolatile);
            }
        }
        if (err < 0) {
            EXPECT_TRUE((refuse && err == -ENOSPC) || err == -E2BIG) << err;
            restore(before);
        }
        return err;
    }

    void nested()
    {
        std::vector<State> before = save();

        EXPECT_EQ(0, memory_transaction_begin());
        change();
        change();
        if (rng() % 2) {
            staged();
        }
        if (rng() % 2) {
            memory_transaction_abort();
            restore(before);
        } else {
            EXPECT_EQ(0, memory_transaction_commit());
        }
    }

    void staged()
    {
        unsigned i = rng() % 3;
        hwaddr addr = (rng() % UNITS) * unit;
        MemoryRegionSection s;
        Range want;
        bool any = resolve_space(&nodes[i], (unsigned)(addr / unit), &want);
        int err = address_space_find_staged(&spaces[i], addr, &s);

        if (err == -E2BIG) {
            return;
        }
        ASSERT_EQ(any ? 1 : 0, err);
        if (any) {
            EXPECT_EQ(want.mr, s.mr);
            EXPECT_EQ(want.offset, s.offset_within_region + (addr - s.offset_within_address_space));
        }
    }

    /* ---- the model ---- */

    bool resolve(const Node *n, unsigned at, Range *out, bool ro, bool nv, unsigned depth) const
    {
        if (!n->enabled || at >= n->size || depth > 200) {
            return false;
        }
        ro = ro || n->readonly;
        nv = nv || n->nonvolatile;
        if (n->alias) {
            return at + n->alias_offset < UNITS && resolve(n->alias, at + n->alias_offset, out, ro, nv, depth + 1);
        }
        std::vector<const Node *> sorted(n->children.begin(), n->children.end());
        std::sort(sorted.begin(), sorted.end(), [](const Node *a, const Node *b) {
            return a->priority != b->priority ? a->priority > b->priority : a->order > b->order;
        });
        for (const Node *c : sorted) {
            if (at >= c->addr && resolve(c, at - c->addr, out, ro, nv, depth + 1)) {
                return true;
            }
        }
        if (n->container) {
            return false;
        }
        *out = {0, 0, &n->mr, at * unit, ro, nv, n->romd};
        return true;
    }

    bool resolve_space(const Node *root, unsigned at, Range *out) const
    {
        return at >= root->addr && resolve(root, at - root->addr, out, false, false, 0);
    }

    std::vector<Range> expected(const Node *root) const
    {
        std::vector<Range> out;
        Range r;

        for (unsigned at = 0; at < end(); at++) {
            if (!resolve_space(root, at, &r)) {
                continue;
            }
            r.first = at * unit;
            r.last = r.first + (unit - 1);
            if (!out.empty() && out.back().joins(r)) {
                out.back().last = r.last;
            } else {
                out.push_back(r);
            }
        }
        return out;
    }

    /* The same root in a space of its own that shares nothing: an alias beside an empty region is no substitute for it. */
    std::vector<Range> from_nothing(Node *root)
    {
        MemoryRegion top, alias, empty;
        AddressSpace as;
        std::vector<Range> out;

        EXPECT_EQ(0, memory_region_init(&top, "top", UINT64_MAX));
        EXPECT_EQ(0, memory_region_init_alias(&alias, "alias", &root->mr, 0, UINT64_MAX));
        EXPECT_EQ(0, memory_region_init(&empty, "empty", 0));
        EXPECT_EQ(0, memory_region_add_subregion(&top, root->addr * unit, &alias));
        EXPECT_EQ(0, memory_region_add_subregion(&top, 0, &empty));
        EXPECT_EQ(0, address_space_init(&as, &top, "fresh"));
        FlatView *view = address_space_get_flatview(&as);
        out = ranges_of(view);
        flatview_unref(view);
        EXPECT_EQ(0, address_space_destroy(&as, nullptr));
        EXPECT_EQ(0, memory_region_del_subregion(&top, &alias));
        EXPECT_EQ(0, memory_region_del_subregion(&top, &empty));
        EXPECT_EQ(0, memory_region_destroy(&alias));
        EXPECT_EQ(0, memory_region_destroy(&empty));
        EXPECT_EQ(0, memory_region_destroy(&top));
        EXPECT_EQ(0, memory_region_quiesce(&alias));
        EXPECT_EQ(0, memory_region_quiesce(&empty));
        EXPECT_EQ(0, memory_region_quiesce(&top));
        return out;
    }

    void check()
    {
        for (unsigned i = 0; i < 3; i++) {
            FlatView *view = address_space_get_flatview(&spaces[i]);
            std::vector<Range> got = ranges_of(view), want = expected(&nodes[i]);

            EXPECT_EQ(want, got);
            for (unsigned at = 0; at < end(); at++) {
                MemoryRegionSection s;
                Range r;
                bool any = resolve_space(&nodes[i], at, &r);

                EXPECT_EQ(any, flatview_find(view, at * unit, &s));
                EXPECT_EQ(any, flatview_find(view, at * unit + (unit - 1), &s));
            }
            flatview_unref(view);
            if (rng() % 64 == 0) {
                EXPECT_EQ(want, from_nothing(&nodes[i]));
            }
            for (unsigned j = 0; j < 2; j++) {
                std::vector<Range> heard;

                for (auto &entry : mirrors[i * 2 + j]->ranges) {
                    heard.push_back(entry.second);
                }
                EXPECT_EQ(want, heard) << (j ? "by regions" : "by spans");
                EXPECT_EQ(0, mirrors[i * 2 + j]->open);
            }
        }
    }

    std::mt19937 rng;
    hwaddr unit;
    std::deque<Node> nodes;
    AddressSpace spaces[3] = {};
    std::unique_ptr<Mirror> mirrors[6];
    uint64_t next_order = 0;
    bool refuse = false;
};

void run(unsigned seeds, unsigned steps, hwaddr unit)
{
    unsigned refused = 0;

    for (unsigned seed = 1; seed <= seeds; seed++) {
        SCOPED_TRACE(seed);
        Machine machine(seed, unit);

        for (unsigned i = 0; i < steps && !testing::Test::HasFailure(); i++) {
            SCOPED_TRACE(i);
            machine.step();
        }
        if (testing::Test::HasFailure()) {
            return;
        }
        refused += machine.refused;
    }
    EXPECT_GT(refused, 0u) << "no commit was ever refused: the test tests less than it says";
}

TEST(TreeModel, IncrementalViewsEqualThePointwiseRulesInASmallSpace)
{
    run(30, 400, 1);
}

TEST(TreeModel, IncrementalViewsEqualThePointwiseRulesUpToTheEndOfTheSpace)
{
    run(30, 400, UINT64_C(1) << 59);
}

} // namespace
