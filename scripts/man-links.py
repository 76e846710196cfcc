#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print the further names of each page of section 3: "name.3 page.3" lines.

man/meson.build installs them as links, so that man finds every function.
"""
import csource
import mdoc


def main():
    for page in mdoc.pages(csource.default_root()):
        if page.path.suffix != '.3':
            continue
        for name in dict.fromkeys(f.name for f in page.functions()):
            if f'{name}.3' != page.path.name:
                print(f'{name}.3 {page.path.name}')


main()
