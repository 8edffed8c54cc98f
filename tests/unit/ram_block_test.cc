/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "shim/ram_block_shim.h"
#include "shim/region_shim.h"

namespace {

/* A file that is gone when the test is. */
class TempFile {
public:
    explicit TempFile(size_t size)
    {
        strcpy(path, "/tmp/flatview-ram-block-XXXXXX");
        fd = mkstemp(path);
        EXPECT_GE(fd, 0);
        EXPECT_EQ(ftruncate(fd, (off_t)size), 0);
    }
    ~TempFile()
    {
        close(fd);
        unlink(path);
    }
    size_t Size() const
    {
        struct stat st;
        EXPECT_EQ(fstat(fd, &st), 0);
        return (size_t)st.st_size;
    }
    char path[64];
    int fd;
};

const size_t page = (size_t)sysconf(_SC_PAGESIZE);

TEST(RamBlock, AnonymousMemoryIsZeroedAndWritable)
{
    RamBlock *block = NULL;

    ASSERT_EQ(ram_block_new_anon(page + 1, &block), 0);
    EXPECT_EQ(block->size, page + 1);
    EXPECT_EQ(block->mapped, 2 * page);
    EXPECT_EQ(block->fd, -1);
    EXPECT_EQ(block->host[0], 0);
    EXPECT_EQ(block->host[page], 0);
    block->host[page] = 1;
    ram_block_free(block);
    ram_block_free(NULL);
}

TEST(RamBlock, SizesThatNoHostMapsAreRefused)
{
    RamBlock *block = NULL;
    char byte;

    for (uint64_t size : { (uint64_t)0, UINT64_MAX, (uint64_t)1 << 63, (uint64_t)INT64_MAX }) {
        EXPECT_EQ(ram_block_new_anon(size, &block), -EINVAL) << size;
        EXPECT_EQ(ram_block_new_memfd("x", size, &block), -EINVAL) << size;
        EXPECT_EQ(ram_block_new_fd(0, 0, size, &block), -EINVAL) << size;
        EXPECT_EQ(ram_block_new_file("/nowhere", size, &block), -EINVAL) << size;
    }
    EXPECT_EQ(ram_block_new_ptr(&byte, 0, &block), -EINVAL);
    EXPECT_EQ(ram_block_new_ptr(&byte, UINT64_MAX, &block), -EINVAL);
    EXPECT_EQ(ram_block_new_ptr(NULL, 1, &block), -EINVAL);
    EXPECT_EQ(ram_block_new_anon((uint64_t)1 << 62, &block), -ENOMEM);
    EXPECT_EQ(block, nullptr);
}

TEST(RamBlock, MemfdKeepsItsSize)
{
    RamBlock *block = NULL;
    std::string name(1000, 'n');

    ASSERT_EQ(ram_block_new_memfd(name.c_str(), 100, &block), 0);
    ASSERT_GE(block->fd, 0);
    block->host[99] = 7;
    uint8_t byte = 0;
    EXPECT_EQ(pread(block->fd, &byte, 1, 99), 1);
    EXPECT_EQ(byte, 7);
    EXPECT_EQ(ftruncate(block->fd, 0), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_TRUE(fcntl(block->fd, F_GETFD) & FD_CLOEXEC);
    ram_block_free(block);
    ASSERT_EQ(ram_block_new_memfd(NULL, 100, &block), 0);
    ram_block_free(block);
}

TEST(RamBlock, AFileIsSharedAndTheCallerKeepsHisDescriptor)
{
    TempFile file(3 * page);
    RamBlock *block = NULL;

    ASSERT_EQ(ram_block_new_fd(file.fd, page, page, &block), 0);
    EXPECT_NE(block->fd, file.fd);
    block->host[1] = 9;
    uint8_t byte = 0;
    EXPECT_EQ(pread(file.fd, &byte, 1, (off_t)page + 1), 1);
    EXPECT_EQ(byte, 9);
    ram_block_free(block);
    EXPECT_EQ(pread(file.fd, &byte, 1, 0), 1);
}

TEST(RamBlock, AFileThatIsTooShortIsRefused)
{
    TempFile file(2 * page);
    RamBlock *block = NULL;

    EXPECT_EQ(ram_block_new_fd(file.fd, page, page + 1, &block), -EINVAL);
    EXPECT_EQ(ram_block_new_fd(file.fd, 1, 1, &block), -EINVAL) << "not a page";
    EXPECT_EQ(ram_block_new_fd(file.fd, (uint64_t)INT64_MAX / page * page, page, &block), -EINVAL);
    EXPECT_EQ(ram_block_new_fd(-1, 0, page, &block), -EBADF);
    EXPECT_EQ(block, nullptr);
}

TEST(RamBlock, OpeningAFileGrowsItButNeverShrinksIt)
{
    TempFile file(page);
    RamBlock *block = NULL;

    ASSERT_EQ(ram_block_new_file(file.path, 3 * page, &block), 0);
    EXPECT_EQ(file.Size(), 3 * page);
    block->host[3 * page - 1] = 1;
    ram_block_free(block);
    ASSERT_EQ(ram_block_new_file(file.path, page, &block), 0);
    EXPECT_EQ(file.Size(), 3 * page);
    ram_block_free(block);
    block = NULL;
    EXPECT_EQ(ram_block_new_file("/nowhere/at/all", page, &block), -ENOENT);
    EXPECT_EQ(ram_block_new_file(NULL, page, &block), -EINVAL);
    EXPECT_EQ(block, nullptr);
}

TEST(RamBlock, WithoutMemoryNothingHappens)
{
    TempFile file(page);
    RamBlock *block = NULL;
    char byte;
    int probe = dup(0);

    close(probe);
    region_shim_fail_nth(1);
    EXPECT_EQ(ram_block_new_anon(page, &block), -ENOMEM);
    region_shim_fail_nth(1);
    EXPECT_EQ(ram_block_new_memfd("x", page, &block), -ENOMEM);
    region_shim_fail_nth(1);
    EXPECT_EQ(ram_block_new_fd(file.fd, 0, page, &block), -ENOMEM);
    region_shim_fail_nth(1);
    EXPECT_EQ(ram_block_new_file(file.path, 2 * page, &block), -ENOMEM);
    region_shim_fail_nth(1);
    EXPECT_EQ(ram_block_new_ptr(&byte, 1, &block), -ENOMEM);
    region_shim_fail_nth(0);
    EXPECT_EQ(block, nullptr);
    EXPECT_EQ(file.Size(), page);
    int again = dup(0);
    EXPECT_EQ(again, probe) << "a descriptor was lost";
    close(again);
}

TEST(RamBlock, MemoryOfTheCallerStaysHis)
{
    uint8_t memory[16] = { 3 };
    RamBlock *block = NULL;

    ASSERT_EQ(ram_block_new_ptr(memory, sizeof(memory), &block), 0);
    EXPECT_EQ(block->host, memory);
    EXPECT_EQ(block->mapped, 0u);
    ram_block_free(block);
    EXPECT_EQ(memory[0], 3);
}

} // namespace
