/* SPDX-License-Identifier: MIT */
/*
 * LZMA2: chunks of LZMA symbols or plain bytes. The inner loop decides how
 * long an xz kernel takes to start: range coder and output pointer live in
 * registers, and the input's end is checked once per symbol.
 */
#include "unpack/unpack.h"

#include "hospes/lib.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

#define PROB_BITS 11
#define PROB_HALF (1u << (PROB_BITS - 1))
#define MOVE_BITS 5
#define TOP (1u << 24)

#define STATES 12u
#define POS_STATES 16u
#define LITERAL_STATES 7u	/* states below follow a literal */
#define LITERAL_CODERS 16u	/* lc + lp <= 4 */
#define DIST_STATES 4u
#define DIST_DIRECT 14u		/* slots from here on have direct bits */
#define ALIGN_BITS 4u

/* Input bytes that one symbol takes at most; an xz stream has as many behind its last chunk. */
#define SYMBOL_INPUT 21

static const char corrupt[] = "the LZMA2 data is damaged";

struct rc {
	uint32_t range, code;
	const uint8_t *in;
};

struct length_coder {
	uint16_t choice, choice2;
	uint16_t low[POS_STATES][8], mid[POS_STATES][8], high[256];
};

/* Every probability; nothing else, so that a reset is one loop. */
struct probs {
	uint16_t is_match[STATES][POS_STATES];
	uint16_t is_rep[STATES], is_rep0[STATES], is_rep1[STATES], is_rep2[STATES];
	uint16_t is_rep0_long[STATES][POS_STATES];
	uint16_t slot[DIST_STATES][64];
	uint16_t special[128];
	uint16_t align[1 << ALIGN_BITS];
	struct length_coder match_len, rep_len;
	uint16_t literal[LITERAL_CODERS][0x300];
};

static struct lzma {
	struct probs p;
	uint32_t state, rep[4];
	uint32_t lc, lp_mask, pb_mask;
} lzma;

static ALWAYS_INLINE void rc_normalize(struct rc *rc)
{
	if (rc->range < TOP) {
		rc->range <<= 8;
		rc->code = rc->code << 8 | *rc->in++;
	}
}

static ALWAYS_INLINE uint32_t rc_bit(struct rc *rc, uint16_t *prob)
{
	uint32_t p = *prob, bound;

	rc_normalize(rc);
	bound = (rc->range >> PROB_BITS) * p;
	if (rc->code < bound) {
		rc->range = bound;
		*prob = (uint16_t)(p + (((1u << PROB_BITS) - p) >> MOVE_BITS));
		return 0;
	}
	rc->range -= bound;
	rc->code -= bound;
	*prob = (uint16_t)(p - (p >> MOVE_BITS));
	return 1;
}

/* A number below @limit (a power of two), highest bit first. */
static ALWAYS_INLINE uint32_t rc_tree(struct rc *rc, uint16_t *probs, uint32_t limit)
{
	uint32_t sym = 1;

	do {
		if (rc_bit(rc, &probs[sym]))
			sym = sym << 1 | 1;
		else
			sym <<= 1;
	} while (sym < limit);
	return sym - limit;
}

/* A number of @bits bits, lowest bit first. */
static ALWAYS_INLINE uint32_t rc_tree_reverse(struct rc *rc, uint16_t *probs, uint32_t bits)
{
	uint32_t sym = 1, value = 0;

	for (uint32_t i = 0; i < bits; i++) {
		uint32_t bit = rc_bit(rc, &probs[sym]);

		sym = sym << 1 | bit;
		value |= bit << i;
	}
	return value;
}

static ALWAYS_INLINE uint32_t decode_length(struct rc *rc, struct length_coder *l, uint32_t pos)
{
	if (!rc_bit(rc, &l->choice))
		return 2 + rc_tree(rc, l->low[pos], 8);
	if (!rc_bit(rc, &l->choice2))
		return 10 + rc_tree(rc, l->mid[pos], 8);
	return 18 + rc_tree(rc, l->high, 256);
}

/* The distance of a match, less one. */
static ALWAYS_INLINE uint32_t decode_distance(struct rc *rc, struct probs *p, uint32_t len)
{
	uint32_t slot = rc_tree(rc, p->slot[MIN(len, DIST_STATES + 1) - 2], 64);
	uint32_t dist = 2 | (slot & 1), bits = (slot >> 1) - 1;

	if (slot < 4)
		return slot;
	if (slot < DIST_DIRECT) {
		dist <<= bits;
		return dist + rc_tree_reverse(rc, p->special + dist - slot, bits);
	}
	for (bits -= ALIGN_BITS; bits; bits--) {
		rc_normalize(rc);
		rc->range >>= 1;
		dist <<= 1;
		if (rc->code >= rc->range) {
			rc->code -= rc->range;
			dist |= 1;
		}
	}
	return (dist << ALIGN_BITS) + rc_tree_reverse(rc, p->align, ALIGN_BITS);
}

/* A literal; after a match, @match is the byte the match would have gone on with. */
static ALWAYS_INLINE uint8_t decode_literal(struct rc *rc, uint16_t *probs, bool matched,
					    uint32_t match)
{
	uint32_t sym = 1, offset = 0x100, bit;

	if (!matched)
		return (uint8_t)rc_tree(rc, probs, 0x100);
	do {
		match <<= 1;
		bit = match & offset;
		if (rc_bit(rc, &probs[offset + bit + sym])) {
			sym = sym << 1 | 1;
			offset &= bit;
		} else {
			sym <<= 1;
			offset &= ~bit;
		}
	} while (sym < 0x100);
	return (uint8_t)sym;
}

/* Which repeated distance comes, moved to the front. False: one byte from the first. */
static ALWAYS_INLINE bool decode_rep(struct rc *rc, struct lzma *s, uint32_t state, uint32_t pos)
{
	uint32_t dist, i = 1;

	if (!rc_bit(rc, &s->p.is_rep0[state]))
		return rc_bit(rc, &s->p.is_rep0_long[state][pos]);
	if (rc_bit(rc, &s->p.is_rep1[state]))
		i = 2 + rc_bit(rc, &s->p.is_rep2[state]);
	dist = s->rep[i];
	for (; i; i--)
		s->rep[i] = s->rep[i - 1];
	s->rep[0] = dist;
	return true;
}

/*
 * An LZMA chunk behind its header: @packed bytes of input, @size of output;
 * @dict is where the dictionary starts.
 */
static const char *decode_chunk(struct unpack *u, const uint8_t *dict, size_t packed, size_t size)
{
	struct lzma *s = &lzma;
	const uint8_t *in_end = u->in + packed;
	uint8_t *out = u->out, *end = out + MIN(size, (size_t)(u->out_end - out));
	uint32_t state = s->state, len;
	struct rc rc;

	if (packed < 5 || packed + SYMBOL_INPUT > (size_t)(u->in_end - u->in) || u->in[0])
		return corrupt;
	rc = (struct rc){ ~0u, __builtin_bswap32(load_le32(u->in + 1)), u->in + 5 };
	while (out < end) {
		size_t at = (size_t)(out - dict);
		uint32_t pos = (uint32_t)at & s->pb_mask;

		if (rc.in > in_end)
			break;
		if (!rc_bit(&rc, &s->p.is_match[state][pos])) {
			uint32_t coder = (((uint32_t)at & s->lp_mask) << s->lc) +
					 ((at ? out[-1] : 0u) >> (8 - s->lc));

			*out = decode_literal(&rc, s->p.literal[coder], state >= LITERAL_STATES,
					      state >= LITERAL_STATES ? *(out - s->rep[0] - 1) : 0);
			out++;
			state = state < 4 ? 0 : state - (state < 10 ? 3 : 6);
			continue;
		}
		if (!rc_bit(&rc, &s->p.is_rep[state])) {
			len = decode_length(&rc, &s->p.match_len, pos);
			s->rep[3] = s->rep[2];
			s->rep[2] = s->rep[1];
			s->rep[1] = s->rep[0];
			s->rep[0] = decode_distance(&rc, &s->p, len);
			state = state < LITERAL_STATES ? 7 : 10;
		} else if (decode_rep(&rc, s, state, pos)) {
			len = decode_length(&rc, &s->p.rep_len, pos);
			state = state < LITERAL_STATES ? 8 : 11;
		} else {
			len = 1;
			state = state < LITERAL_STATES ? 9 : 11;
		}
		if (s->rep[0] >= at)
			break;
		out = copy_match(out, (size_t)s->rep[0] + 1, MIN(len, (size_t)(end - out)), end);
	}
	rc_normalize(&rc);
	s->state = state;
	size -= (size_t)(out - u->out);
	u->out = out;
	u->in = in_end;
	return !size && rc.in == in_end && !rc.code ? NULL : corrupt;
}

static void state_reset(struct lzma *s)
{
	uint16_t *p = (uint16_t *)&s->p;

	for (size_t i = 0; i < sizeof(s->p) / sizeof(*p); i++)
		p[i] = PROB_HALF;
	s->state = 0;
	s->rep[0] = s->rep[1] = s->rep[2] = s->rep[3] = 0;
}

/* The property byte: (pb * 5 + lp) * 9 + lc. */
static bool set_properties(struct lzma *s, uint8_t byte)
{
	uint32_t lc = byte % 9u, lp = byte / 9u % 5, pb = byte / 45u;

	if (pb > 4 || lc + lp > 4)
		return false;
	s->lc = lc;
	s->lp_mask = (1u << lp) - 1;
	s->pb_mask = (1u << pb) - 1;
	return true;
}

static const char *plain_chunk(struct unpack *u, size_t size)
{
	if (size > (size_t)(u->in_end - u->in) || size > (size_t)(u->out_end - u->out))
		return corrupt;
	memcpy(u->out, u->in, size);
	u->in += size;
	u->out += size;
	return NULL;
}

const char *lzma2_unpack(struct unpack *u)
{
	const uint8_t *dict = NULL;
	const char *error = NULL;
	bool ready = false;	/* properties and state belong to this dictionary */

	while (!error) {
		const uint8_t *p = u->in;
		size_t size;

		if (u->in_end - p < 6)
			return corrupt;
		if (!p[0]) {
			u->in++;
			break;
		}
		if (p[0] == 1 || p[0] >= 0xe0) {
			dict = u->out;
			ready = false;
		}
		ready |= p[0] >= 0xc0;
		if (!dict || (p[0] > 2 && (p[0] < 0x80 || !ready)))
			return corrupt;
		size = ((size_t)p[1] << 8 | p[2]) + 1;
		if (p[0] < 0x80) {
			u->in += 3;
			error = plain_chunk(u, size);
			continue;
		}
		u->in += p[0] < 0xc0 ? 5 : 6;
		if (p[0] >= 0xc0 && !set_properties(&lzma, p[5]))
			return corrupt;
		if (p[0] >= 0xa0)
			state_reset(&lzma);
		error = decode_chunk(u, dict, ((size_t)p[3] << 8 | p[4]) + 1,
				     ((size_t)(p[0] & 0x1f) << 16) + size);
	}
	return error;
}
