package socket

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// recordVersion changes with what a Record means. One of version 1 does not say who
// has the sockets.
const recordVersion = 2

// maxRecorded bounds the descriptors that one record may name.
const maxRecorded = 1 << 16

// A Record is what must be known of a unit's sockets to take them over. It is
// stored as JSON. What the kernel tells is not in it, nor what was under way when
// it was made.
type Record struct {
	Version int
	Spec    *unit.Socket // of the last Bind
	Sockets []SocketRecord
	Holders []HolderRecord `json:",omitempty"` // the processes that have them, or dead ones
	Seats   []SeatRecord   `json:",omitempty"` // of a steered unit, one for each shard of a ring
}

// A SocketRecord is what a unit has at one address.
type SocketRecord struct {
	Address   unit.Address // as the configuration names it
	Bound     unit.Address // as getsockname(2) does
	Cookie    uint64       // SO_COOKIE; of a ring: the anchor's
	Former    bool         `json:",omitempty"` // the last Bind did not name it
	Given     bool         `json:",omitempty"` // by systemd
	Listening bool         `json:",omitempty"`
	Gone      uint64       `json:",omitempty"` // processes have this dead socket instead
	Options   *Baseline    `json:",omitempty"`
	Made      *Made        `json:",omitempty"` // nil: as Spec says
	Node      *Node        `json:",omitempty"` // of a unix path that is ours
	Ring      *RingRecord  `json:",omitempty"` // nil: one socket for all processes
}

// A Node is the inode of a unix path. Its number is not used again while the
// socket lives.
type Node struct{ Dev, Ino uint64 }

// A RingRecord is what is steered at one address, without its anchor.
type RingRecord struct {
	Class, Hops uint8 // of probes
	UID         int   // of the sockets; -1: our own
	Filtered    bool
	Lost        uint64 `json:",omitempty"`
	Shards      []ShardRecord
}

// A ShardRecord is one socket of a ring.
type ShardRecord struct {
	Cookie uint64
	Place  int
	Probes uint64 `json:",omitempty"`
}

// A HolderRecord is what a process was given.
type HolderRecord struct {
	Holder  unit.Invocation
	Sockets []Held
}

// A SeatRecord is one seat of a steered unit.
type SeatRecord struct {
	Holder unit.Invocation `json:",omitempty"`
	Weight uint32          `json:",omitempty"`
	Strays uint64          `json:",omitempty"`
}

// check says why a record cannot be one of ours.
func (r *Record) check(name string) error {
	switch {
	case r.Version != recordVersion && r.Version != 1:
		return fmt.Errorf("its record has version %d, this supervisord knows %d", r.Version, recordVersion)
	case r.Spec == nil || r.Spec.Name != name:
		return errors.New("its record is of another unit")
	}
	rings, err := r.checkSockets()
	if err == nil {
		err = r.checkHolders()
	}
	if err == nil {
		err = r.checkSeats(rings > 0)
	}
	return err
}

// checkHolders bounds what it takes in. Whom it names is the caller's to know.
func (r *Record) checkHolders() error {
	seen := map[unit.Invocation]bool{}
	count := 0
	for _, h := range r.Holders {
		if h.Holder == 0 || seen[h.Holder] {
			return fmt.Errorf("its record has holder %d twice, or none", h.Holder)
		}
		seen[h.Holder] = true
		if count += len(h.Sockets); count > maxRecorded {
			return fmt.Errorf("its record has more than %d sockets with processes", maxRecorded)
		}
	}
	return nil
}

// checkSockets counts the rings.
func (r *Record) checkSockets() (rings int, err error) {
	addresses := map[unit.Address]bool{}
	cookies := map[uint64]bool{}
	count := 0
	for _, s := range r.Sockets {
		if addresses[s.Address] {
			return 0, fmt.Errorf("its record has %s twice", s.Address)
		}
		addresses[s.Address] = true
		if !s.fits() {
			return 0, fmt.Errorf("its record has %s bound to %s", s.Address, s.Bound)
		}
		if s.Ring != nil {
			rings++
			if err := s.checkRing(len(r.Seats)); err != nil {
				return 0, fmt.Errorf("its record of %s is impossible: %w", s.Address, err)
			}
		}
		for _, c := range s.cookies() {
			if cookies[c] {
				return 0, fmt.Errorf("its record has cookie %d twice", c)
			}
			cookies[c] = true
		}
		if count += len(s.cookies()); count > maxRecorded {
			return 0, fmt.Errorf("its record has more than %d sockets", maxRecorded)
		}
	}
	return rings, nil
}

// fits says whether what is bound can be what the configuration names. What systemd
// gave by name may lie elsewhere.
func (s *SocketRecord) fits() bool {
	a := s.Address
	if a.Network != s.Bound.Network || s.Given && s.Node != nil {
		return false
	}
	switch {
	case a.Network != "tcp" && a.Network != "unix":
		return false
	case s.Given:
		return true
	case strings.HasPrefix(a.Path, "/"):
		return a.Network == "unix" && s.Node != nil // the kernel may know it by another name
	case a.Network == "unix":
		return a == s.Bound
	}
	a.Port = cmp.Or(a.Port, s.Bound.Port)
	return Given{Kind: kinds[unix.SOCK_STREAM], Address: s.Bound}.at(a)
}

func (s *SocketRecord) checkRing(seats int) error {
	n := len(s.Ring.Shards)
	switch {
	case s.Address.Network != "tcp" || s.Given:
		return errors.New("only TCP that is ours is steered")
	case n == 0 || n > maxShards+1 || n != seats:
		return fmt.Errorf("%d shards for %d seats", n, seats)
	case s.Ring.Hops == 0:
		return errors.New("probes need a hop")
	}
	placed := make([]bool, n+1)
	for _, shard := range s.Ring.Shards {
		p := shard.Place
		if p < 1 || p > n || placed[p] {
			return fmt.Errorf("place %d is not there or taken twice", p)
		}
		placed[p] = true
	}
	return nil
}

func (r *Record) checkSeats(steered bool) error {
	if !steered && len(r.Seats) > 0 {
		return errors.New("its record has seats and nothing that is steered")
	}
	held := map[unit.Invocation]bool{}
	var total uint64
	for _, s := range r.Seats {
		switch {
		case s.Weight > maxWeight:
			return fmt.Errorf("its record has a share of %d", s.Weight)
		case s.Holder != 0 && held[s.Holder]:
			return fmt.Errorf("its record has two seats for invocation %d", s.Holder)
		}
		held[s.Holder] = true
		total += uint64(s.Weight)
	}
	switch {
	case steered && total == 0:
		return errors.New("its record has no share for anybody")
	case steered && !held[0]:
		return errors.New("its record has no free seat")
	}
	return nil
}

// cookies lists those of a socket or ring, the anchor's first.
func (s *SocketRecord) cookies() []uint64 {
	all := []uint64{s.Cookie}
	if s.Ring != nil {
		for _, shard := range s.Ring.Shards {
			all = append(all, shard.Cookie)
		}
	}
	return all
}

func (r *Record) held() bool {
	for _, s := range r.Seats {
		if s.Holder != 0 {
			return true
		}
	}
	return false
}
