/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <gtest/gtest.h>

#include "shim/region_shim.h"

namespace {

uint64_t NoRead(MemoryRegion *, hwaddr, unsigned)
{
    return 0;
}

/* What the initialiser macros make; they are C. */
MemoryRegion StaticRegion(MemoryRegionKind kind, uint64_t size)
{
    MemoryRegion mr = MemoryRegion();
    mr.kind = (uint8_t)kind;
    mr.last = size == UINT64_MAX ? UINT64_MAX : size - 1;
    mr.size_is_zero = size == 0;
    mr.state = MEMORY_REGION_STATE_STATIC;
    mr.enabled = true;
    mr.romd = true;
    return mr;
}

MemoryRegion StaticAlias(MemoryRegion *target)
{
    MemoryRegion mr = StaticRegion(MEMORY_KIND_ALIAS, 0x1000);
    mr.alias = target;
    return mr;
}

TEST(Region, SizesSurviveWhateverTheyAre)
{
    const uint64_t sizes[] = { 0, 1, 2, 0x1000, UINT64_MAX - 1, UINT64_MAX };

    for (uint64_t size : sizes) {
        MemoryRegion mr;
        region_shim_init(&mr, MEMORY_KIND_CONTAINER, size);
        EXPECT_EQ(region_shim_size(&mr), size);
        for (uint64_t other : sizes) {
            region_shim_resize(&mr, other);
            EXPECT_EQ(region_shim_size(&mr), other);
        }
        region_shim_fini(&mr);
    }
}

TEST(Region, LiveOnesAreCounted)
{
    uint64_t before = region_shim_live_count();
    MemoryRegion a, b = StaticRegion(MEMORY_KIND_CONTAINER, 1);

    region_shim_init(&a, MEMORY_KIND_CONTAINER, 1);
    EXPECT_EQ(region_shim_live_count(), before + 1);
    EXPECT_EQ(region_shim_adopt(&b), 0);
    EXPECT_EQ(region_shim_adopt(&b), 0);
    EXPECT_EQ(region_shim_live_count(), before + 2);
    region_shim_fini(&a);
    region_shim_fini(&b);
    EXPECT_EQ(region_shim_live_count(), before);
}

TEST(Region, IsMappedByItsParent)
{
    MemoryRegion parent, child;

    region_shim_init(&parent, MEMORY_KIND_CONTAINER, 0x1000);
    region_shim_init(&child, MEMORY_KIND_CONTAINER, 0x1000);
    EXPECT_FALSE(region_shim_is_mapped(&child));
    region_shim_link(&parent, &child, 0, 0);
    EXPECT_TRUE(region_shim_is_mapped(&child));
    EXPECT_FALSE(region_shim_is_mapped(&parent));
    region_shim_unlink(&child);
    EXPECT_FALSE(region_shim_is_mapped(&child));
    region_shim_fini(&child);
    region_shim_fini(&parent);
}

TEST(Region, IsMappedByAliasesOfAliases)
{
    MemoryRegion parent, target, a, b, a_of_a;

    region_shim_init(&parent, MEMORY_KIND_CONTAINER, 0x1000);
    region_shim_init(&target, MEMORY_KIND_IO, 0x1000);
    region_shim_init_alias(&a, &target, 0, 0x1000);
    region_shim_init_alias(&b, &target, 0, 0x1000);
    region_shim_init_alias(&a_of_a, &a, 0, 0x1000);
    EXPECT_FALSE(region_shim_is_mapped(&target));

    region_shim_link(&parent, &a_of_a, 0, 0);
    EXPECT_TRUE(region_shim_is_mapped(&a));
    EXPECT_TRUE(region_shim_is_mapped(&target));
    region_shim_link(&parent, &a, 0, 0);
    region_shim_link(&parent, &b, 0, 0);
    region_shim_unlink(&a_of_a);
    EXPECT_TRUE(region_shim_is_mapped(&target));
    region_shim_unlink(&a);
    EXPECT_FALSE(region_shim_is_mapped(&a));
    EXPECT_TRUE(region_shim_is_mapped(&target));
    region_shim_unlink(&b);
    EXPECT_FALSE(region_shim_is_mapped(&target));

    region_shim_fini(&a_of_a);
    region_shim_fini(&b);
    region_shim_fini(&a);
    region_shim_fini(&target);
    region_shim_fini(&parent);
}

TEST(Region, AliasesLeaveTheirTargetInAnyOrder)
{
    MemoryRegion target, alias[4];
    const int order[] = { 2, 0, 3, 1 };

    region_shim_init(&target, MEMORY_KIND_IO, 0x1000);
    for (MemoryRegion &a : alias) {
        region_shim_init_alias(&a, &target, 0, 1);
    }
    for (int i : order) {
        int n = 0;
        region_shim_fini(&alias[i]);
        for (MemoryRegion *a = target.aliases; a; a = a->alias_next) {
            EXPECT_NE(a, &alias[i]);
            n++;
        }
        EXPECT_LE(n, 3);
    }
    EXPECT_EQ(target.aliases, nullptr);
    region_shim_fini(&target);
}

TEST(Region, AdoptingAnAliasAdoptsWhatItLeadsTo)
{
    MemoryRegion target = StaticRegion(MEMORY_KIND_CONTAINER, 0x1000);
    MemoryRegion middle = StaticAlias(&target), alias = StaticAlias(&middle);

    EXPECT_EQ(region_shim_adopt(&alias), 0);
    EXPECT_EQ(alias.state, REGION_SHIM_LIVE);
    EXPECT_EQ(middle.state, REGION_SHIM_LIVE);
    EXPECT_EQ(target.state, REGION_SHIM_LIVE);
    EXPECT_EQ(target.aliases, &middle);
    EXPECT_EQ(middle.aliases, &alias);
    region_shim_fini(&alias);
    region_shim_fini(&middle);
    region_shim_fini(&target);
}

TEST(Region, StaticAliasesInACircleAreRefused)
{
    for (int length = 1; length <= 9; length++) {
        for (int tail = 0; tail <= 5; tail++) {
            MemoryRegion alias[16];
            for (int i = 0; i < tail + length; i++) {
                alias[i] = StaticAlias(i == tail + length - 1 ? &alias[tail] : &alias[i + 1]);
            }
            EXPECT_EQ(region_shim_adopt(&alias[0]), -ELOOP) << tail << " then " << length;
            for (int i = 0; i < tail + length; i++) {
                EXPECT_EQ(alias[i].state, REGION_SHIM_STATIC);
                EXPECT_EQ(alias[i].aliases, nullptr);
            }
        }
    }
}

TEST(Region, AdoptingIsAllOrNothing)
{
    MemoryRegionOps no_ops = MemoryRegionOps();
    MemoryRegion io = StaticRegion(MEMORY_KIND_IO, 0x1000);
    MemoryRegion alias = StaticAlias(&io);
    MemoryRegion nothing = MemoryRegion();

    io.ops = &no_ops;
    EXPECT_EQ(region_shim_adopt(&io), -EINVAL);
    EXPECT_EQ(region_shim_adopt(&alias), -EINVAL);
    EXPECT_EQ(alias.state, REGION_SHIM_STATIC);
    EXPECT_EQ(io.state, REGION_SHIM_STATIC);
    EXPECT_EQ(io.aliases, nullptr);
    EXPECT_EQ(region_shim_adopt(&nothing), -EINVAL);
    alias.alias = NULL;
    EXPECT_EQ(region_shim_adopt(&alias), -EINVAL);
    alias.alias = &nothing;
    EXPECT_EQ(region_shim_adopt(&alias), -EINVAL);
}

TEST(Region, AdoptingTakesOverOpsAndMemory)
{
    static uint8_t memory[64];
    MemoryRegionOps ops = MemoryRegionOps();
    MemoryRegion io = StaticRegion(MEMORY_KIND_IO, 0x1000), ram = StaticRegion(MEMORY_KIND_RAM, sizeof(memory));
    MemoryRegion alias = StaticAlias(&ram);

    ops.read = NoRead;
    ops.endianness = MEMORY_BIG_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 4;
    io.ops = &ops;
    EXPECT_EQ(region_shim_adopt(&io), 0);
    EXPECT_TRUE(region_shim_big_endian(io.io_flags));

    EXPECT_EQ(region_shim_adopt(&alias), -EINVAL) << "memory without an address";
    ram.host = memory;
    region_shim_fail_nth(1);
    EXPECT_EQ(region_shim_adopt(&alias), -ENOMEM);
    region_shim_fail_nth(0);
    EXPECT_EQ(alias.state, REGION_SHIM_STATIC);
    EXPECT_EQ(region_shim_adopt(&alias), 0);
    EXPECT_NE(ram.block, nullptr);
    region_shim_fini(&io);
    region_shim_fini(&alias);
    region_shim_fini(&ram);
}

} // namespace
