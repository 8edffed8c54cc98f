// SPDX-License-Identifier: MIT
// The readers of maps: what is refused, with which words; and what the text of `info mtree` is taken to mean.
#include "shim/topo_shim.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace {

const std::string kHead = "# memtopo 1\n";
const std::string kRoot = "region 1 - 0 10000000000000000 0 e-----o--- - 0 0 system\n";
const std::string kRam = "region 2 1 0 1000 0 etm---o--b - 0 0 ram\n";
const std::string kIo = "region 3 1 2000 10 0 et----o--- - 0 0 uart\n";
const std::string kGood = kHead + kRoot + kRam + kIo +
                          "coalesced 3 0 4\n"
                          "as 0 1 0 memory\n"
                          "view 0 1 2\n"
                          "range 0 1000 2 0 2 --o\n"
                          "range 2000 10 3 0 0 --o\n";

std::string Complaint(const std::string &text, bool mtree = false)
{
    char complaint[512] = "";

    return topo_shim_parse(mtree, text.data(), text.size(), complaint, sizeof(complaint)) ? "accepted" : complaint;
}

std::string Regions(const std::string &text)
{
    static char regions[1 << 16];
    bool ok = topo_shim_regions(true, text.data(), text.size(), regions, sizeof(regions));

    return ok ? regions : Complaint(text, true);
}

/* One region more than a root, and what follows. */
std::string With(const std::string &lines)
{
    return kHead + kRoot + lines;
}

struct Bad {
    const char *what;
    std::string text;
    const char *complaint; // its beginning
};

TEST(Topo, GoodMapsAreAccepted)
{
    EXPECT_EQ(Complaint(kGood), "accepted");
    EXPECT_EQ(Complaint(kHead), "accepted");
    EXPECT_EQ(Complaint(kHead + "\n# a remark\n" + kRoot), "accepted");
    EXPECT_EQ(Complaint(With("as 0 1 - written by hand\n")), "accepted");
    EXPECT_EQ(Complaint(With("region 9223372036854775808 1 0 0 -2147483648 e-----o--- - 0 0 \n")), "accepted");
    // A bus may show a window of itself: the renderer decides whether that ends.
    EXPECT_EQ(Complaint(With("region 2 1 5000 1000 0 e-----o--- 1 1000 0 window\n")), "accepted");
}

TEST(Topo, BadMapsAreRefusedWithLineAndCause)
{
    const Bad table[] = {
        {"empty", "", "1: the first line is not '# memtopo 1'"},
        {"no header", kRoot, "1: the first line is not '# memtopo 1'"},
        {"another version", "# memtopo 2\n", "1: the first line is not '# memtopo 1'"},
        {"no newline at the end", kHead + "region 1 - 0 10 0 e-----o--- - 0 0 sys",
         "2: cut off: no newline at the end"},
        {"NUL", kHead + std::string("region 1 - 0 10 0 e-----o--- - 0 0 a\0b\n", 39),
         "2: control character 0x00 in column"},
        {"carriage return", kHead + "region 1 - 0 10 0 e-----o--- - 0 0 a\r\n",
         "2: control character 0x0d in column 37"},
        {"tab", kHead + "region\t1\n", "2: control character 0x09 in column 7"},
        {"unknown record", kHead + "regio 1\n", "2: no record is called 'regio'"},
        {"leading space", kHead + " region 1\n", "2: the record's name is empty"},
        {"two spaces", kHead + "region  1\n", "2: ID is empty"},
        {"fields missing", kHead + "region 1 - 0 10 0 e-----o--- - 0\n", "2: DIRTY is missing"},
        {"name missing", kHead + "region 1 - 0 10 0 e-----o--- - 0 0\n", "2: NAME is missing"},
        {"id not a number", kHead + "region x - 0 10 0 e-----o--- - 0 0 a\n", "2: ID 'x' is not a decimal number"},
        {"id negative", kHead + "region -1 - 0 10 0 e-----o--- - 0 0 a\n", "2: ID '-1' is not a decimal number"},
        {"id none", kHead + "region - - 0 10 0 e-----o--- - 0 0 a\n", "2: ID '-' is not a decimal number"},
        {"id over 2^63", kHead + "region 9223372036854775809 - 0 10 0 e-----o--- - 0 0 a\n",
         "2: ID '9223372036854775809' is out of range"},
        {"id over 2^64", kHead + "region 18446744073709551617 - 0 10 0 e-----o--- - 0 0 a\n",
         "2: ID '18446744073709551617' is out of range"},
        {"id twice", With(kRam + kRam), "4: region 2 again, first in line 3"},
        {"offset over 2^64", kHead + "region 1 - 10000000000000000 10 0 e-----o--- - 0 0 a\n",
         "2: OFFSET '10000000000000000' is out of range"},
        {"offset in capitals", kHead + "region 1 - AB 10 0 e-----o--- - 0 0 a\n",
         "2: OFFSET 'AB' is not a hexadecimal"},
        {"size over 2^64", kHead + "region 1 - 0 10000000000000001 0 e-----o--- - 0 0 a\n",
         "2: SIZE '10000000000000001' is out of range"},
        {"size 2^64 - 1", kHead + "region 1 - 0 ffffffffffffffff 0 e-----o--- - 0 0 a\n",
         "2: SIZE 'ffffffffffffffff' is out of range"},
        {"size very long", kHead + "region 1 - 0 " + std::string(1000, '0') + "1g 0 e-----o--- - 0 0 a\n",
         "2: SIZE '0000000000000000000000000000000000000000' is not"},
        {"priority too high", kHead + "region 1 - 0 10 2147483648 e-----o--- - 0 0 a\n",
         "2: PRIO '2147483648' is out of"},
        {"priority too low", kHead + "region 1 - 0 10 -2147483649 e-----o--- - 0 0 a\n",
         "2: PRIO '-2147483649' is out of"},
        {"priority of nothing", kHead + "region 1 - 0 10 - e-----o--- - 0 0 a\n",
         "2: PRIO '-' is not a decimal number"},
        {"flags too short", kHead + "region 1 - 0 10 0 e-----o-- - 0 0 a\n", "2: FLAGS 'e-----o--' are not 10 letters"},
        {"flags out of place", kHead + "region 1 - 0 10 0 te----o--- - 0 0 a\n", "2: FLAGS 'te----o---': letter 1 is"},
        {"RAM that does not terminate", kHead + "region 1 - 0 10 0 e-m---o--b - 0 0 a\n",
         "2: a region with a kind must"},
        {"RAM and ROM device", kHead + "region 1 - 0 10 0 etm--do--b - 0 0 a\n",
         "2: RAM, ROM device and IOMMU exclude"},
        {"RAM without a block", kHead + "region 1 - 0 10 0 etm---o--- - 0 0 a\n",
         "2: RAM and ROM devices, and only they"},
        {"I/O with a block", kHead + "region 1 - 0 10 0 et----o--b - 0 0 a\n", "2: RAM and ROM devices, and only they"},
        {"device RAM that is not RAM", kHead + "region 1 - 0 10 0 et----o-x- - 0 0 a\n",
         "2: device RAM that is not RAM"},
        {"I/O out of read mode", kHead + "region 1 - 0 10 0 et-------- - 0 0 a\n",
         "2: only a ROM device can leave read"},
        {"alias that terminates", With("region 2 1 0 10 0 et----o--- 1 0 0 a\n"), "3: an alias has no kind of its own"},
        {"alias offset without alias", With("region 2 1 0 10 0 et----o--- - 8 0 a\n"), "3: ALIAS_OFFSET without ALIAS"},
        {"dirty mask of clients unknown", kHead + "region 1 - 0 10 0 et----o--- - 0 8 a\n",
         "2: DIRTY '8' is out of range"},
        {"container unknown", With("region 2 7 0 10 0 et----o--- - 0 0 a\n"), "3: CONTAINER: there is no region 7"},
        {"container is itself", With("region 2 2 0 10 0 e-----o--- - 0 0 a\n"), "3: region 2 out of order"},
        {"containers in a circle", With("region 2 3 0 10 0 e-----o--- - 0 0 a\nregion 3 2 0 10 0 e-----o--- - 0 0 b\n"),
         "3: region 2 out of order"},
        {"container comes later", With("region 2 3 0 10 0 et----o--- - 0 0 a\nregion 3 1 0 10 0 e-----o--- - 0 0 b\n"),
         "3: region 2 out of order"},
        {"not depth first", With("region 2 1 0 10 0 e-----o--- - 0 0 a\nregion 3 1 0 10 0 e-----o--- - 0 0 b\n"
                                 "region 4 2 0 1 0 et----o--- - 0 0 c\n"), "5: region 4 out of order"},
        {"priorities ascend", With("region 2 1 0 10 0 e-----o--- - 0 0 a\nregion 3 1 0 10 1 e-----o--- - 0 0 b\n"),
         "4: region 3 out of order: below a sibling of lower priority"},
        {"container is an alias", With("region 2 1 0 10 0 e-----o--- 1 0 0 a\nregion 3 2 0 1 0 et----o--- - 0 0 b\n"),
         "4: CONTAINER 2 is an alias"},
        {"alias unknown", With("region 2 1 0 10 0 e-----o--- 7 0 0 a\n"), "3: ALIAS: there is no region 7"},
        {"alias of itself", With("region 2 1 0 10 0 e-----o--- 2 0 0 a\n"), "3: ALIAS: a circle"},
        {"aliases in a circle", With("region 2 1 0 10 0 e-----o--- 3 0 0 a\nregion 3 1 0 10 0 e-----o--- 2 0 0 b\n"),
         "3: ALIAS: a circle"},
        {"coalesced of nothing", With("coalesced 7 0 10\n"), "3: ID: there is no region 7"},
        {"coalesced with more", With("coalesced 1 0 10 20\n"), "3: '20' after the last field"},
        {"space without root", With("as 0 - 0 memory\n"), "3: ROOT '-' is not a decimal number"},
        {"space of a root unknown", With("as 0 7 - memory\n"), "3: ROOT: there is no region 7"},
        {"space of a view unknown", With("as 0 1 0 memory\n"), "3: VIEW: there is no view 0"},
        {"spaces not counted up", With("as 1 1 - memory\n"), "3: number 1 where 0 is due"},
        {"regions after spaces", With("as 0 1 - memory\n" + kRam), "4: 'region' too late"},
        {"range without view", With("range 0 10 1 0 0 --o\n"), "3: a range beyond what its view announced"},
        {"ranges too many", With(kRam + "view 0 1 0\nrange 0 10 2 0 2 --o\n"),
         "5: a range beyond what its view announced"},
        {"ranges too few", With(kRam + "view 0 1 2\nrange 0 10 2 0 2 --o\n"), "4: 2 ranges announced, 1 present"},
        {"ranges claimed beyond reason", With("view 0 1 18446744073709551615\n"),
         "3: 18446744073709551615 ranges announced"},
        {"ranges claimed beyond 2^64", With("view 0 1 18446744073709551616\n"),
         "3: NRANGES '18446744073709551616' is out"},
        {"range of no bytes", With(kRam + "view 0 1 1\nrange 0 0 2 0 2 --o\n"),
         "5: a range of no bytes, or beyond 2^64"},
        {"range beyond 2^64", With(kRam + "view 0 1 1\nrange ffffffffffffffff 2 2 0 2 --o\n"),
         "5: a range of no bytes, or"},
        {"ranges overlap", With(kRam + "view 0 1 2\nrange 0 11 2 0 2 --o\nrange 10 10 2 0 2 --o\n"),
         "6: ranges of a view"},
        {"range of a container", With("view 0 1 1\nrange 0 10 1 0 0 --o\n"), "4: region 1 does not terminate"},
        {"range flags", With(kRam + "view 0 1 1\nrange 0 10 2 0 2 ---r\n"), "5: RFLAGS '---r' are not 'rvo'"},
        {"view of a root unknown", With("view 0 7 0\n"), "3: ROOT: there is no region 7"},
    };

    for (const Bad &bad : table) {
        EXPECT_EQ(Complaint(bad.text).compare(0, strlen(bad.complaint), bad.complaint), 0)
            << bad.what << ": " << Complaint(bad.text);
    }
}

TEST(Topo, CutOffAnywhereIsRefusedOrStillWhole)
{
    for (size_t len = 0; len < kGood.size(); len++) {
        std::string complaint = Complaint(kGood.substr(0, len));

        // Whole again only where a map may end: after a line, with every announced range there.
        EXPECT_TRUE(complaint != "accepted" || kGood[len - 1] == '\n') << len << ": " << complaint;
    }
}

TEST(Topo, LongLinesAreRefusedAndQuotesAreShort)
{
    EXPECT_EQ(Complaint(kHead + std::string(70000, 'x') + "\n"), "2: line longer than 65536 bytes");
    EXPECT_LT(Complaint(kHead + std::string(60000, 'x') + "\n").size(), 100u);
}

TEST(Topo, DepthIsBounded)
{
    std::string deep = kHead + "region 0 - 0 1000 0 e-----o--- - 0 0 r\n", chain = deep;

    for (int i = 1; i < 512; i++) {
        deep += "region " + std::to_string(i) + " " + std::to_string(i - 1) + " 0 1000 0 e-----o--- - 0 0 r\n";
        chain += "region " + std::to_string(i) + " - 0 1000 0 e-----o--- " + std::to_string(i - 1) + " 0 0 r\n";
    }
    EXPECT_EQ(Complaint(deep), "accepted");
    EXPECT_EQ(Complaint(chain), "accepted");
    EXPECT_EQ(Complaint(deep + "region 512 511 0 1000 0 e-----o--- - 0 0 r\n"),
              "514: region 512 is nested deeper than 512 levels");
    EXPECT_EQ(Complaint(chain + "region 512 - 0 1000 0 e-----o--- 511 0 0 r\n"),
              "514: ALIAS: a circle, or more than 512 aliases of aliases");
}

TEST(Topo, SizeCostsTimeInProportion)
{
    auto start = std::chrono::steady_clock::now();
    std::string wide = kHead + "region 0 - 0 1000 0 e-----o--- - 0 0 r\n", deep = wide, circle = kHead;

    for (int i = 1; i <= 100000; i++) {
        std::string id = std::to_string(i);

        wide += "region " + id + " 0 0 1000 0 et----o--- - 0 0 r\n";
        deep += "region " + id + " " + std::to_string(i - 1) + " 0 1000 0 e-----o--- - 0 0 r\n";
        circle += "region " + id + " - 0 1000 0 e-----o--- " + std::to_string(i % 100000 + 1) + " 0 0 r\n";
    }
    EXPECT_EQ(Complaint(wide), "accepted");
    EXPECT_EQ(Complaint(deep), "514: region 512 is nested deeper than 512 levels");
    EXPECT_EQ(Complaint(circle), "2: ALIAS: a circle, or more than 512 aliases of aliases");
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

const std::string kSpace = "address-space: memory\n"
                           "  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n";

TEST(Mtree, BadTextIsRefusedWithLineAndCause)
{
    const Bad table[] = {
        {"empty", "", "0: no address spaces"},
        {"something else", "hello\n", "1: neither 'address-space: ' nor 'memory-region: '"},
        {"no heading", "\n  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n", "2: a line without a heading"},
        {"odd indent", kSpace + "   0000000000000000-0000000000000001 (prio 0, i/o): x\n",
         "3: not a line of `info mtree`"},
        {"short number", kSpace + "    000-0000000000000001 (prio 0, i/o): x\n", "3: not a line of `info mtree`"},
        {"priority", kSpace + "    0000000000000000-0000000000000001 (prio 4294967296, i/o): x\n", "3: not a line of"},
        {"type", kSpace + "    0000000000000000-0000000000000001 (prio 0, rum): x\n", "3: no type is called 'rum): x'"},
        {"two trees", kSpace + "  0000000000000000-0000000000000001 (prio 0, i/o): x\n", "3: a second tree"},
        {"no empty line", kSpace + "address-space: x\n", "3: no empty line before the heading"},
        {"no target", kSpace + "    0000000000000000-0000000000000fff (prio 0, ram): alias a @b 0000000000000000-"
                               "0000000000000fff\n", "3: alias target 'b': no section of that name and type"},
        {"target of another type", kSpace + "    0000000000000000-0000000000000fff (prio 0, ram): alias a @b "
                                            "0000000000000000-0000000000000fff\n\nmemory-region: b\n"
                                            "  0000000000000000-0000000000000fff (prio 0, i/o): b\n",
         "3: alias target 'b': no section of that name and type"},
        {"below its container's start", "address-space: m\n  0000000000001000-0000000000001fff (prio 0, i/o): r\n"
                                        "    0000000000000000-0000000000000001 (prio 0, i/o): x\n", "3: out of order"},
    };

    for (const Bad &bad : table) {
        EXPECT_EQ(Complaint(bad.text, true).compare(0, strlen(bad.complaint), bad.complaint), 0)
            << bad.what << ": " << Complaint(bad.text, true);
    }
}

TEST(Mtree, ALineTooDeepProvesADisabledContainer)
{
    EXPECT_EQ(Regions(kSpace + "    0000000000001000-0000000000001fff (prio 0, ram): a\n"
                               "        0000000000002000-0000000000002fff (prio 0, i/o): b\n"),
              "system eo - -\n"
              "a etmob system -\n"
              " o a -\n"
              "b eto  -\n");
}

TEST(Mtree, ALineOutOfOrderProvesADisabledContainer)
{
    EXPECT_EQ(Regions(kSpace + "    0000000000001000-0000000000008fff (prio 0, i/o): a\n"
                               "      0000000000005000-0000000000005fff (prio 0, i/o): b\n"
                               "      0000000000002000-0000000000002fff (prio 0, i/o): c\n"),
              "system eo - -\n"
              "a eo system -\n"
              "b eto a -\n"
              " o system -\n"
              "c eto  -\n");
}

TEST(Mtree, ATargetThatStandsInATreeIsOneRegion)
{
    const std::string pci = "  0000000000000000-000000000000ffff (prio 0, i/o): pci\n"
                            "    0000000000000000-0000000000000fff (prio 1, ram): vga\n";
    std::string inside = pci;

    for (size_t at = 0; (at = inside.find("  0", at)) != std::string::npos; at = inside.find('\n', at)) {
        inside.insert(at, "  ");
    }
    EXPECT_EQ(Regions(kSpace + inside + "    0000000000010000-0000000000010fff (prio 0, i/o): alias low @pci "
                                        "0000000000000000-0000000000000fff\n\nmemory-region: pci\n" + pci),
              "system eo - -\n"
              "low eo system pci\n"
              "pci eo system -\n"
              "vga etmob pci -\n");
}

TEST(Mtree, NamesMayLookLikeSyntax)
{
    EXPECT_EQ(Regions(kSpace + "    0000000000001000-0000000000001fff (prio 0, i/o): alias a @b @c @0x10 "
                               "0000000000000000-0000000000000fff\n\nmemory-region: c @0x10\n"
                               "  0000000000000000-0000000000000fff (prio 0, i/o): c @0x10\n"),
              "system eo - -\n"
              "a @b eo system c @0x10\n"
              "c @0x10 eto - -\n");
}

TEST(Mtree, DepthAndGapsAreBounded)
{
    const std::string leaf = "0000000000000000-0000000000000001 (prio 0, i/o): x\n";
    std::string text = "address-space: m\n  0000000000000000-ffffffffffffffff (prio 0, i/o): r\n";

    EXPECT_EQ(Complaint(text + std::string(2 * 512, ' ') + leaf, true), "accepted");
    EXPECT_EQ(Complaint(text + std::string(2 * 513, ' ') + leaf, true), "3: nested deeper than 512 levels");
    for (int i = 0; i < 2100; i++) {
        text += std::string(2 * 512, ' ') + leaf + "    " + leaf;
    }
    EXPECT_NE(Complaint(text, true).find("more than 1048576 containers are missing"), std::string::npos)
        << Complaint(text, true);
}

} // namespace
