package doors

import (
	"errors"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Steer divides the new connections of a service's sockets. A process has seats
// only in those that it was started with.
func (d *Doors) Steer(service string, shares []unit.Share) (err error) {
	for _, name := range d.Of(service) {
		seated := map[unit.Invocation]int{}
		for _, seat := range d.table.Seats(name) {
			who := d.Who(seat.Holder)
			for _, h := range shares {
				if who == (Process{service, h.ID}) {
					seated[seat.Holder] = h.Weight
				}
			}
		}
		if len(seated) > 0 {
			err = errors.Join(err, d.table.Steer(name, seated))
		}
	}
	return err
}

// Settled says whether no connection is on its way to a process.
func (d *Doors) Settled(who Process) bool {
	for _, name := range d.Of(who.Service) {
		if s, err := d.table.Settled(name, d.ticket(name, who)); err == nil && !s.Done() {
			return false
		}
	}
	return true
}
