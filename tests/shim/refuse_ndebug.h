/* SPDX-License-Identifier: MIT */
/*
 * refuse_ndebug.h - forced into every test and shim (tests/meson.build): a test whose assertions are compiled out
 * passes without having looked.
 */
#ifdef NDEBUG
#error "tests need assertions: build without NDEBUG"
#endif
