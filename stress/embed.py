#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""embed.py INPUT OUTPUT NAME - a text file as a C array NAME, with NAME_len."""
import sys

source, target, name = sys.argv[1:]
with open(source, 'rb') as file:
    data = file.read()
with open(target, 'w', encoding='ascii') as file:
    file.write(f'#include "builtin.h"\n\nconst size_t {name}_len = {len(data)};\nconst char {name}[] = {{\n')
    for at in range(0, len(data), 24):
        file.write(''.join(f'{byte},' for byte in data[at:at + 24]) + '\n')
    file.write('};\n')
