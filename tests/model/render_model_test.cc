/* SPDX-License-Identifier: MIT */
/*
 * render_model_test.cc - rendering against the visibility rules, followed literally for one address at a time.
 *
 * The resolver knows no windows, spans or views: it asks the topmost child first and works in 128 bits, so that nothing
 * it does needs an argument about overflow. The trees are random: aliases of aliases, offsets beyond the target, children
 * beyond their parents and beyond 2^64, equal priorities, disabled subtrees, sizes 0 and 2^64, roots with an offset.
 * Every boundary that can matter is a sum of places and offsets; where the tree is small that is checked address by
 * address, at the bottom, in the middle and at the very end of the address space.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include "shim/region_shim.h"
#include "shim/render_shim.h"

namespace {

typedef unsigned __int128 Wide;

struct Tree {
    std::deque<MemoryRegion> regions; /* the first is the root */
    std::vector<std::vector<MemoryRegion *>> children; /* topmost first, by number of the region */

    ~Tree()
    {
        for (auto mr = regions.rbegin(); mr != regions.rend(); ++mr) {
            if (mr->parent) {
                region_shim_unlink(&*mr);
            }
        }
        for (auto mr = regions.rbegin(); mr != regions.rend(); ++mr) {
            region_shim_fini(&*mr);
        }
    }

    size_t number(const MemoryRegion *mr) const
    {
        size_t i = 0;
        while (&regions[i] != mr) {
            i++;
        }
        return i;
    }

    void link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int priority)
    {
        region_shim_link(parent, child, addr, priority);
        auto &list = children[number(parent)];
        auto at = std::find_if(list.begin(), list.end(), [priority](MemoryRegion *c) { return c->priority <= priority; });
        list.insert(at, child);
    }

    Wide size_of(const MemoryRegion *mr) const
    {
        return mr->size_is_zero ? 0 : Wide(mr->last) + 1;
    }

    struct Answer {
        MemoryRegion *mr = nullptr;
        uint64_t offset = 0;
        bool readonly = false, nonvolatile = false;
    };

    /* What mr shows at addr of what it stands in; base: where it is taken to stand. */
    bool resolve(MemoryRegion *mr, Wide addr, Wide base, bool readonly, bool nonvolatile, Answer *ret)
    {
        if (!mr->enabled || addr < base || addr - base >= size_of(mr)) {
            return false;
        }
        Wide local = addr - base;
        readonly |= mr->readonly;
        nonvolatile |= mr->nonvolatile;
        if (mr->kind == MEMORY_KIND_ALIAS) {
            return resolve(mr->alias, local + mr->alias_offset, 0, readonly, nonvolatile, ret);
        }
        for (MemoryRegion *child : children[number(mr)]) {
            if (resolve(child, local, child->addr, readonly, nonvolatile, ret)) {
                return true;
            }
        }
        if (mr->kind == MEMORY_KIND_CONTAINER) {
            return false;
        }
        *ret = {mr, uint64_t(local), readonly, nonvolatile};
        return true;
    }
};

uint32_t expected_flags(const Tree::Answer &a)
{
    uint32_t flags = (a.readonly ? RT_READONLY : 0) | (a.nonvolatile ? RT_NONVOLATILE : 0) | (a.mr->romd ? RT_ROMD : 0);
    switch (a.mr->kind) {
    case MEMORY_KIND_RAM:
        return flags | RT_DIRECT_READ | (a.readonly ? 0 : RT_DIRECT_WRITE);
    case MEMORY_KIND_ROM:
        return flags | RT_DIRECT_READ;
    case MEMORY_KIND_ROM_DEVICE:
        return flags | (a.mr->romd ? RT_DIRECT_READ : 0) | a.mr->io_flags << RT_IO_SHIFT;
    case MEMORY_KIND_RAM_DEVICE:
        return flags | RT_EXACT;
    default:
        return flags | a.mr->io_flags << RT_IO_SHIFT;
    }
}

bool has_host(const Tree::Answer &a)
{
    return a.mr->kind == MEMORY_KIND_ROM_DEVICE ? a.mr->romd : a.mr->kind != MEMORY_KIND_IO;
}

/* As one range for each address; then what goes on is joined. */
std::vector<RtRange> expected(Tree *tree, const std::vector<hwaddr> &addrs)
{
    MemoryRegion *root = &tree->regions[0];
    std::vector<RtRange> out;
    for (hwaddr addr : addrs) {
        Tree::Answer a;
        if (!tree->resolve(root, addr, root->addr, false, false, &a)) {
            continue;
        }
        RtRange r = {addr, addr, a.mr, a.offset, a.mr->bias, nullptr, nullptr, expected_flags(a)};
        if (has_host(a)) {
            r.host = static_cast<uint8_t *>(a.mr->host) + a.offset;
        }
        if (a.mr->kind == MEMORY_KIND_IO || a.mr->kind == MEMORY_KIND_ROM_DEVICE) {
            r.ops = a.mr->ops;
        }
        if (!out.empty()) {
            RtRange &p = out.back();
            if (p.last + 1 == addr && addr && p.mr == r.mr && p.flags == r.flags && p.bias == r.bias &&
                p.offset + (addr - p.first) == r.offset) {
                p.last = addr;
                continue;
            }
        }
        out.push_back(r);
    }
    return out;
}

bool same(const RtRange &a, const RtRange &b)
{
    return a.first == b.first && a.last == b.last && a.mr == b.mr && a.offset == b.offset && a.bias == b.bias &&
           a.host == b.host && a.ops == b.ops && a.flags == b.flags;
}

std::string text(const std::vector<RtRange> &ranges)
{
    std::string out;
    for (const RtRange &r : ranges) {
        char line[160];
        snprintf(line, sizeof(line), "%llx-%llx %p @%llx flags %x host %p\n", (unsigned long long)r.first,
                 (unsigned long long)r.last, (void *)r.mr, (unsigned long long)r.offset, r.flags, (void *)r.host);
        out += line;
    }
    return out;
}

const hwaddr WIDTH = 160; /* addresses looked at, one by one */
uint8_t host_memory[2][4096];
MemoryRegionOps ops;

class Random
{
  public:
    explicit Random(unsigned seed) : engine(seed)
    {
    }
    uint64_t below(uint64_t n)
    {
        return engine() % n;
    }
    bool one_in(unsigned n)
    {
        return below(n) == 0;
    }

  private:
    std::mt19937_64 engine;
};

hwaddr small_size(Random &random)
{
    return random.one_in(12) ? 0 : 1 + random.below(random.one_in(3) ? WIDTH : 30);
}

/* corner: what small places are counted from, in the root; the same for all that lies in it, if low. */
void grow(Tree *tree, Random &random, hwaddr corner)
{
    const MemoryRegionKind kinds[] = {MEMORY_KIND_CONTAINER, MEMORY_KIND_CONTAINER, MEMORY_KIND_IO,
                                      MEMORY_KIND_RAM,       MEMORY_KIND_ROM,       MEMORY_KIND_ROM_DEVICE,
                                      MEMORY_KIND_RAM_DEVICE};
    const size_t n = 4 + random.below(14);

    tree->children.resize(n);
    for (size_t i = 0; i < n; i++) {
        tree->regions.emplace_back();
        MemoryRegion *mr = &tree->regions.back();
        bool aliases = i > 1 && random.one_in(3);
        uint64_t size = random.one_in(8) ? UINT64_MAX : small_size(random);

        if (aliases) {
            /* Only of earlier regions, and earlier ones never get later children, so there is no loop. */
            MemoryRegion *target = &tree->regions[1 + random.below(i - 1)];
            hwaddr offset = random.one_in(6) ? UINT64_MAX - random.below(4) : random.below(random.one_in(3) ? 3 : 60);
            region_shim_init_alias(mr, target, random.one_in(4) ? 0 : offset, size);
        } else {
            MemoryRegionKind kind = i ? kinds[random.below(3)] : random.one_in(4) ? MEMORY_KIND_IO : MEMORY_KIND_CONTAINER;
            if (i && random.one_in(2)) {
                kind = kinds[3 + random.below(4)];
                size = small_size(random); /* memory has host addresses */
            }
            region_shim_init(mr, kind, i ? size : UINT64_MAX);
            mr->host = host_memory[random.below(2)];
            if (mr->kind == MEMORY_KIND_IO || mr->kind == MEMORY_KIND_ROM_DEVICE) {
                mr->ops = &ops;
                mr->io_flags = uint32_t(random.below(4));
            }
            mr->bias = random.one_in(5) ? random.below(3) : 0;
            mr->romd = !random.one_in(4);
            mr->readonly = mr->kind == MEMORY_KIND_ROM;
        }
        mr->readonly |= random.one_in(8);
        mr->nonvolatile = random.one_in(8);
    }
    /* Children have lower numbers than parents, except those of the root. */
    for (size_t i = n - 1; i > 0; i--) {
        MemoryRegion *mr = &tree->regions[i];
        size_t up = random.one_in(3) || i == n - 1 ? 0 : i + 1 + random.below(n - 1 - i);
        hwaddr addr = random.below(random.one_in(3) ? WIDTH : 40);

        if (random.one_in(5)) {
            continue; /* shown by aliases only */
        }
        if (tree->regions[up].kind == MEMORY_KIND_ALIAS) {
            up = 0;
        }
        if (up == 0) {
            addr += corner;
        } else if (random.one_in(10)) {
            addr = UINT64_MAX - random.below(20);
        }
        tree->link(&tree->regions[up], mr, addr, int(random.below(4)) - 2);
    }
    for (size_t i = 1; i < n; i++) {
        if (random.one_in(9)) {
            region_shim_enable(&tree->regions[i], false);
        }
    }
    if (random.one_in(4)) {
        region_shim_move(&tree->regions[0], random.below(30));
    }
}

std::vector<hwaddr> addresses(hwaddr corner)
{
    std::vector<hwaddr> out;
    for (hwaddr i = 0; i < 2 * WIDTH && corner + i >= corner; i++) {
        out.push_back(corner + i);
    }
    return out;
}

void look(RtView *view, hwaddr first, hwaddr last, std::vector<RtRange> *ret)
{
    std::vector<RtRange> all(rt_count(view));
    ASSERT_EQ(rt_ranges(view, all.data(), all.size()), all.size());
    ret->clear();
    for (RtRange r : all) {
        if (r.last < first || r.first > last) {
            continue;
        }
        if (r.first < first) {
            r.offset += first - r.first;
            r.host += r.host ? first - r.first : 0;
            r.first = first;
        }
        r.last = std::min(r.last, last);
        ret->push_back(r);
    }
}

void compare(RtView *view, Tree *tree, hwaddr corner, const char *when)
{
    std::vector<hwaddr> addrs = addresses(corner);
    std::vector<RtRange> want = expected(tree, addrs), got;
    look(view, addrs.front(), addrs.back(), &got);
    ASSERT_TRUE(got.size() == want.size() && std::equal(got.begin(), got.end(), want.begin(), same))
        << when << ", expected\n"
        << text(want) << "got\n"
        << text(got);
    rt_check(view);
}

void change(Tree *tree, Random &random, hwaddr corner)
{
    MemoryRegion *mr = &tree->regions[1 + random.below(tree->regions.size() - 1)];
    switch (random.below(6)) {
    case 0:
        region_shim_enable(mr, !mr->enabled);
        break;
    case 1:
        region_shim_resize(mr, small_size(random));
        break;
    case 2:
        region_shim_move(mr, random.below(WIDTH) + (mr->parent == &tree->regions[0] ? corner : 0));
        break;
    case 3:
        mr->readonly = mr->kind == MEMORY_KIND_ROM || !mr->readonly;
        break;
    case 4:
        if (mr->kind == MEMORY_KIND_ALIAS) {
            mr->alias_offset = random.below(60);
        }
        break;
    default:
        mr->bias = random.below(3);
        break;
    }
}

void run(unsigned seed, hwaddr corner)
{
    Random random(seed);
    Tree tree;
    grow(&tree, random, corner);
    MemoryRegion *root = &tree.regions[0];
    RtView *view = rt_new(100);
    std::vector<hwaddr> addrs = addresses(corner);

    ASSERT_EQ(rt_render(view, root, 0, UINT64_MAX), 0);
    compare(view, &tree, corner, "at first");
    for (unsigned k = 0; k < 6 && !testing::Test::HasFatalFailure(); k++) {
        /* After a change, a span that is rendered shows the new tree, and the rest of the view what it showed. */
        std::vector<RtRange> before;
        hwaddr first = addrs[random.below(addrs.size())], last = addrs[random.below(addrs.size())];
        std::vector<hwaddr> inside;

        if (first > last) {
            std::swap(first, last);
        }
        look(view, 0, UINT64_MAX, &before);
        change(&tree, random, corner);
        ASSERT_EQ(rt_render(view, root, first, last), 0);
        rt_check(view);
        for (hwaddr addr = first; addr <= last && addr >= first; addr++) {
            inside.push_back(addr);
        }
        std::vector<RtRange> want = expected(&tree, inside), got;
        look(view, first, last, &got);
        ASSERT_TRUE(got.size() == want.size() && std::equal(got.begin(), got.end(), want.begin(), same))
            << "in a span, expected\n"
            << text(want) << "got\n"
            << text(got);
        for (const RtRange &r : before) {
            for (hwaddr at : {r.first, r.last}) {
                if (at < first || at > last) {
                    look(view, at, at, &got);
                    ASSERT_TRUE(got.size() == 1 && got[0].mr == r.mr && got[0].offset == r.offset + (at - r.first));
                }
            }
        }
        ASSERT_EQ(rt_render(view, root, 0, UINT64_MAX), 0);
        compare(view, &tree, corner, "after a change");
    }
    rt_free(view);
}

} // namespace

TEST(RenderModel, TreesAtTheBottom)
{
    for (unsigned seed = 0; seed < 1000 && !HasFatalFailure(); seed++) {
        SCOPED_TRACE(seed);
        run(seed, 0);
    }
}

TEST(RenderModel, TreesInTheMiddle)
{
    for (unsigned seed = 0; seed < 500 && !HasFatalFailure(); seed++) {
        SCOPED_TRACE(seed);
        run(10000 + seed, (hwaddr(1) << 63) - 40);
    }
}

TEST(RenderModel, TreesAtTheVeryEnd)
{
    for (unsigned seed = 0; seed < 1000 && !HasFatalFailure(); seed++) {
        SCOPED_TRACE(seed);
        run(20000 + seed, UINT64_MAX - 120);
    }
}
