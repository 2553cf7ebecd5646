package socket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The programs are classic BPF, which needs no privilege. One chooses the shard
// of a new connection, by its place in the kernel's group; the others are
// filters, which see each packet of a socket.

const (
	loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	loadByte  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	and       = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	ifEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	ifEqualX  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X
	ifAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jump      = unix.BPF_JMP | unix.BPF_JA
	toX       = unix.BPF_MISC | unix.BPF_TAX
	answerK   = unix.BPF_RET | unix.BPF_K

	random        = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM: 32 bits
	networkHeader = 0xfff00000      // SKF_NET_OFF

	drop, pass = 0, 1<<32 - 1 // what a filter returns: bytes to keep
)

// dropAll is the filter of the anchor.
var dropAll = []unix.SockFilter{{Code: answerK, K: drop}}

// weighted answers places[i] with probability weights[i] / sum(weights), exact
// to 2^-32. At least one weight is positive.
func weighted(places []int, weights []uint32) (program []unix.SockFilter) {
	var total, sum uint64
	last := 0
	for i, w := range weights {
		if total += uint64(w); w > 0 {
			last = i
		}
	}
	program = append(program, unix.SockFilter{Code: loadWord, K: random})
	for i, w := range weights[:last] {
		if w == 0 {
			continue
		}
		sum += uint64(w)
		program = append(program,
			unix.SockFilter{Code: ifAtLeast, K: uint32(sum << 32 / total), Jt: 1},
			unix.SockFilter{Code: answerK, K: uint32(places[i])})
	}
	return append(program, unix.SockFilter{Code: answerK, K: uint32(places[last])})
}

// A mark tells our probes from clients: a SYN that a machine sends to itself,
// with a traffic class and a hop limit that nobody else uses.
type mark struct{ class, hops uint8 }

// matched goes to yes instructions after its end for a probe, else to no.
func (m mark) matched(yes, no uint8) []unix.SockFilter {
	const v4, v6 = 0x45000000, 0x60000000 // version, and length of the header for IPv4
	class := uint32(m.class)
	return []unix.SockFilter{
		{Code: loadWord, K: networkHeader},
		{Code: and, K: 0xffff0000},
		{Code: ifEqual, K: v4 | class<<16, Jf: 6},
		{Code: loadWord, K: networkHeader + 12}, // source
		{Code: toX},
		{Code: loadWord, K: networkHeader + 16}, // destination
		{Code: ifEqualX, Jf: no + 11},
		{Code: loadByte, K: networkHeader + 8}, // time to live
		{Code: jump, K: 8},
		{Code: loadWord, K: networkHeader},
		{Code: and, K: 0xfff00000},
		{Code: ifEqual, K: v6 | class<<20, Jf: no + 6},
		{Code: loadWord, K: networkHeader + 20}, // low word of the source
		{Code: toX},
		{Code: loadWord, K: networkHeader + 36}, // and of the destination
		{Code: ifEqualX, Jf: no + 2},
		{Code: loadByte, K: networkHeader + 7}, // hop limit
		{Code: ifEqual, K: uint32(m.hops), Jt: yes, Jf: no},
	}
}

// dropMarked is the filter of a shard: it drops probes, and counts them thereby.
func dropMarked(m mark) []unix.SockFilter {
	const flags, syn = 13, 0x02 // of the TCP header, where a filter begins
	program := []unix.SockFilter{
		{Code: loadByte, K: flags},
		{Code: and, K: 0x3f},
		{Code: ifEqual, K: syn, Jf: uint8(len(m.matched(0, 0)) + 1)},
	}
	program = append(program, m.matched(0, 1)...)
	return append(program, unix.SockFilter{Code: answerK, K: drop}, unix.SockFilter{Code: answerK, K: pass})
}

// probing sends probes to a place, and all others where the program says.
func probing(m mark, place int, program []unix.SockFilter) []unix.SockFilter {
	p := append(m.matched(0, 1), unix.SockFilter{Code: answerK, K: uint32(place)})
	return append(p, program...)
}

// attach sets a program by a socket option. The kernel copies it.
func attach(fd, option int, program []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &fprog); err != nil {
		return fmt.Errorf("cannot attach a program of %d instructions: %w", len(program), err)
	}
	return nil
}
