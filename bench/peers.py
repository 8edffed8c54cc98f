# SPDX-License-Identifier: MIT
"""peers.py - figures of other systems, quoted: measured on the same kind of machine, not in this run.

Instructions may be compared with ours; times only as ratios within their own run.
"""

# QEMU 7.2 (Debian): one toggled or moved region of n in one address space, instructions, everything included.
QEMU_MOVE = [(16, 87e3), (256, 590e3), (1024, 4.5e6), (4094, 55.7e6)]
