/* SPDX-License-Identifier: MIT */
/*
 * What every unit test includes first: cmocka and the headers it wants before it.
 */
#ifndef HOSPES_UNIT_H
#define HOSPES_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
