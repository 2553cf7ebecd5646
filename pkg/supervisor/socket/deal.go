package socket

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// A deal says where the new connections of a unit go. All rings of the unit share it,
// so one write steers all of their addresses at the same moment. Whoever changes it
// needs the op lock of the group.
type deal struct {
	name string // of the unit
	kept *custody
	fd   int   // BPF_MAP_TYPE_ARRAY of one element; -1: no ring is open
	now  cards // as they are in force, or will be when the first ring opens
}

func newDeal(name string, kept *custody) *deal { return &deal{name: name, kept: kept, fd: -1} }

// open makes the map with the cards that are set, if there is none yet.
func (d *deal) open() error {
	if d.fd >= 0 {
		return nil
	}
	fd, err := newMap(mapArray, uint32(unsafe.Sizeof(d.now)), 1)
	if err != nil {
		return err
	}
	d.fd = fd
	d.kept.hold(d.key(), fd)
	return d.write()
}

// key is what the map is kept under.
func (d *deal) key() string { return "deal/" + d.name }

// set puts cards in force, and says whether they are others than before. If that fails
// it is as if nobody had asked.
func (d *deal) set(card [cardCount]uint16) (changed bool, err error) {
	if card == d.now.Card {
		return false, nil
	}
	before := d.now.Card
	d.now.Card = card
	if err := d.write(); err != nil {
		d.now.Card = before
		return false, err
	}
	return true, nil
}

// write goes on in the cards where they are: to begin anew each time would favour some.
func (d *deal) write() error {
	if d.fd < 0 {
		return nil
	}
	var is cards
	if get(d.fd, 0, &is) == nil {
		d.now.Dealt = is.Dealt
	}
	if err := put(d.fd, 0, &d.now); err != nil {
		return fmt.Errorf("cannot steer socket %s: %w", d.name, err)
	}
	return nil
}

// call has the next connection from a port of this machine go to a key, whatever its
// card. Port 0 ends that.
func (d *deal) call(from uint16, key uint16) error {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&d.now.Caller))[:], from)
	d.now.Callee = key
	return d.write()
}

func (d *deal) refuses() bool { return d.now.Card[0] == refusal }

func (d *deal) close() {
	if d.fd >= 0 {
		d.kept.drop(d.fd)
		closeFD(d.fd)
		d.fd = -1
	}
}

// alone gives all cards to one key.
func alone(key uint16) (card [cardCount]uint16) {
	for i := range card {
		card[i] = key
	}
	return card
}

// dealt divides the cards in proportion to weights, of which one is positive, in the
// order of the keys.
func dealt(weights map[uint16]int) (card [cardCount]uint16) {
	total := 0
	for _, w := range weights {
		total += w
	}
	next, sum := 0, 0
	for key := range uint16(keyCount) {
		for sum += weights[key]; next < sum*cardCount/total; next++ {
			card[next] = key
		}
	}
	return card
}
