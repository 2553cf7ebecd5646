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
// has the sockets, and before version 4 there are no rings in it, or others.
const recordVersion = 4

// maxRecorded bounds the descriptors that one record may name.
const maxRecorded = 1 << 16

// A Record is what must be known of a unit's sockets to take them over. It is stored as
// JSON. What the kernel tells is not in it, nor what was under way when it was made.
type Record struct {
	Version int
	Spec    *unit.Socket // of the last Bind
	Sockets []SocketRecord
	Holders []HolderRecord `json:",omitempty"` // the processes that have them, or dead ones
}

// A SocketRecord is what a unit has at one address.
type SocketRecord struct {
	Address   unit.Address // as the configuration names it
	Bound     unit.Address // as getsockname(2) does
	Cookie    uint64       // SO_COOKIE
	Former    bool         `json:",omitempty"` // the last Bind did not name it
	Given     bool         `json:",omitempty"` // by systemd
	Listening bool         `json:",omitempty"`
	Gone      uint64       `json:",omitempty"` // processes have this dead socket instead
	Options   *Baseline    `json:",omitempty"`
	Made      *Made        `json:",omitempty"` // nil: as Spec says
	Node      *Node        `json:",omitempty"` // of a unix path that is ours
	Ring      *RingRecord  `json:",omitempty"` // it is steered, and the cookie is that of the room
}

// A RingRecord is what belongs to a steered address. Its maps and its program have names
// to be kept under; who gets new connections is in them.
type RingRecord struct {
	UID    int           // see ring.uid
	Past   uint64        `json:",omitempty"`
	Shards []ShardRecord `json:",omitempty"`
}

// A ShardRecord is the socket of one process.
type ShardRecord struct {
	Key     uint16
	Cookie  uint64 // SO_COOKIE
	Holder  unit.Invocation
	Ended   bool      `json:",omitempty"`
	Options *Baseline `json:",omitempty"`
}

// A Node is the inode of a unix path. Its number is not used again while the
// socket lives.
type Node struct{ Dev, Ino uint64 }

// A HolderRecord is what a process was given.
type HolderRecord struct {
	Holder  unit.Invocation
	Leaving bool `json:",omitempty"` // it was told to end
	Sockets []Held
}

// check says why a record cannot be one of ours.
func (r *Record) check(name string) error {
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("its record has version %d, this supervisord knows %d", r.Version, recordVersion)
	case r.Spec == nil || r.Spec.Name != name:
		return errors.New("its record is of another unit")
	}
	err := r.checkSockets()
	if err == nil {
		err = r.checkHolders()
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

func (r *Record) checkSockets() error {
	addresses := map[unit.Address]bool{}
	cookies := map[uint64]bool{}
	keys := map[uint16]unit.Invocation{}
	for _, s := range r.Sockets {
		if addresses[s.Address] {
			return fmt.Errorf("its record has %s twice", s.Address)
		}
		addresses[s.Address] = true
		if !s.fits() {
			return fmt.Errorf("its record has %s bound to %s", s.Address, s.Bound)
		}
		if cookies[s.Cookie] {
			return fmt.Errorf("its record has cookie %d twice", s.Cookie)
		}
		cookies[s.Cookie] = true
		if err := s.Ring.check(cookies, keys); err != nil {
			return fmt.Errorf("its record of %s is wrong: %w", s.Address, err)
		}
	}
	if len(cookies) > maxRecorded {
		return fmt.Errorf("its record has more than %d sockets", maxRecorded)
	}
	return nil
}

// check adds the shards to the cookies, and the processes that have them to the keys,
// which are the same at all addresses.
func (r *RingRecord) check(cookies map[uint64]bool, keys map[uint16]unit.Invocation) error {
	if r == nil {
		return nil
	}
	here := map[uint16]bool{}
	for _, s := range r.Shards {
		switch other, ok := keys[s.Key]; {
		case s.Key == roomKey || s.Key >= keyCount || here[s.Key]:
			return fmt.Errorf("key %d is none, or is there twice", s.Key)
		case s.Holder == 0 || ok && other != s.Holder:
			return fmt.Errorf("key %d is of process %d, and of %d", s.Key, other, s.Holder)
		case cookies[s.Cookie]:
			return fmt.Errorf("it has cookie %d twice", s.Cookie)
		}
		here[s.Key], keys[s.Key], cookies[s.Cookie] = true, s.Holder, true
	}
	return nil
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
	case s.Ring != nil && (a.Network != "tcp" || s.Given || s.Listening):
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
