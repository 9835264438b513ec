/* SPDX-License-Identifier: GPL-2.0-only */
/* Its declarations went to linux/dma-map-ops.h in 5.10 (0b1abd1fb7ef). */
#include <linux/dma-map-ops.h>
