package socket

// cardCount is how many cards a deal has: shares are exact to a hundredth of a per cent.
const cardCount = 10000

// stride leads through the cards. It has no factor in common with their number, so each
// comes once in so many connections; and it is close to their number times the golden
// ratio, so those of one process are spread as evenly as can be.
const stride = 6181

// roomKey is the key of the waiting room, refusal the card of nobody.
const (
	roomKey = 0
	refusal = 0xffff
)

// cards are the one value of the map that the program reads: the key of a process for
// each card. They are not replaced at once, but whoever reads them half-way finds a key
// of before or of after, and both have a socket: a shard is opened before it has a card,
// and shut when it has none any more. So no lock is needed, nor a second table.
type cards struct {
	Dealt  uint64            // how many connections there were
	Caller uint16            // the source port of a connection of ours, in the order of the network: whatever its card,
	Callee uint16            // it goes to this key
	Card   [cardCount]uint16 // see refusal
}

// An instruction is struct bpf_insn of linux/bpf.h.
type instruction struct {
	op   uint8
	regs uint8 // source << 4 | destination
	off  int16
	imm  int32
}

// steering is the program. The kernel runs it for the first packet of each new
// connection, and for each connection and handshake of a socket that ends:
//
//	if the packet is there and comes from Caller, which is not 0 {
//		key = Callee
//	} else {
//		Dealt++
//		key = Card[Dealt * stride % cardCount]
//	}
//	if key == refusal { return SK_DROP }          // ECONNREFUSED
//	if !select(sockets, key) {                    // its process has shut it down
//		select(sockets, roomKey)
//	}
//	return SK_PASS                                // if nothing is selected: by hash
//
// It reads migrating_sk, which it does not need: a kernel before 5.14, which cannot
// migrate, would otherwise take it and never call it for a socket that ends.
func steering(deal, sockets int) []instruction {
	const r0, r1, r2, r3, r4, r6, fp = 0, 1, 2, 3, 4, 6, 10
	const key = -4 // where it lies from fp on
	reg := func(dst, src uint8) uint8 { return src<<4 | dst }
	mapOf := func(dst uint8, fd int) []instruction { // BPF_LD_IMM64 with BPF_PSEUDO_MAP_FD
		return []instruction{{op: 0x18, regs: reg(dst, 1), imm: int32(fd)}, {}}
	}
	choose := append([]instruction{{op: 0xbf, regs: reg(r1, r6)}}, mapOf(r2, sockets)...)
	choose = append(choose,
		instruction{op: 0xbf, regs: reg(r3, fp)}, instruction{op: 0x07, regs: r3, imm: key},
		instruction{op: 0xb7, regs: r4},
		instruction{op: 0x85, imm: helperSelectSocket},
	)
	const caller, callee, card = 8, 10, 12 // offsets in cards
	p := []instruction{
		{op: 0xbf, regs: reg(r6, r1)},          // r6 = context
		{op: 0x79, regs: reg(r1, r6), off: 48}, // r1 = context.migrating_sk
		{op: 0x62, regs: fp, off: key},         // key = 0
	}
	p = append(p, mapOf(r1, deal)...)
	p = append(p, []instruction{
		{op: 0xbf, regs: reg(r2, fp)},
		{op: 0x07, regs: r2, imm: key},
		{op: 0x85, imm: helperLookup}, // r0 = the cards
		{op: 0x55, regs: r0, off: 2},  // which are there, but the verifier cannot know
		{op: 0xb7, regs: r0, imm: 1},
		{op: 0x95},                            // else return SK_PASS
		{op: 0x79, regs: reg(r1, r6)},         // r1 = where the TCP header begins
		{op: 0x79, regs: reg(r2, r6), off: 8}, // r2 = where the packet ends
		{op: 0xbf, regs: reg(r3, r1)},         //
		{op: 0x07, regs: r3, imm: 2},          //
		{op: 0x2d, regs: reg(r3, r2), off: 6}, // no packet: a connection that moves
		{op: 0x69, regs: reg(r1, r1)},         // r1 = source port
		{op: 0x69, regs: reg(r2, r0), off: caller},
		{op: 0x15, regs: r2, off: 3},          // we call nobody, and a packet may come from port 0
		{op: 0x5d, regs: reg(r1, r2), off: 2}, // not from us
		{op: 0x69, regs: reg(r1, r0), off: callee},
		{op: 0x05, off: 11},                          // to key = r1
		{op: 0xb7, regs: r1, imm: 1},                 //
		{op: 0xdb, regs: reg(r0, r1)},                // Dealt += 1, in one. BPF_FETCH would tell it, but arm64 has that since 5.18 only;
		{op: 0x79, regs: reg(r1, r0)},                // r1 = Dealt: two of the same instant may get one card
		{op: 0x27, regs: r1, imm: stride},            //
		{op: 0x97, regs: r1, imm: cardCount},         //
		{op: 0xa5, regs: r1, off: 2, imm: cardCount}, // it is less, but the verifier does not know what % bounds
		{op: 0xb7, regs: r0, imm: 1},
		{op: 0x95},
		{op: 0x67, regs: r1, imm: 1},             // cards have two bytes
		{op: 0x0f, regs: reg(r0, r1)},            //
		{op: 0x69, regs: reg(r1, r0), off: card}, //
		{op: 0x55, regs: r1, off: 2, imm: refusal},
		{op: 0xb7, regs: r0},
		{op: 0x95},                              // return SK_DROP
		{op: 0x63, regs: reg(fp, r1), off: key}, // key = r1
	}...)
	p = append(p, choose...)
	p = append(p, instruction{op: 0x15, regs: r0, off: int16(1 + len(choose))}) // selected
	p = append(p, instruction{op: 0x62, regs: fp, off: key, imm: roomKey})
	p = append(p, choose...)
	return append(p, instruction{op: 0xb7, regs: r0, imm: 1}, instruction{op: 0x95})
}
