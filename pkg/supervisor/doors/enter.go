package doors

import (
	"context"
	"fmt"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Enter returns what a process of a service that is about to start gets of the
// sockets, in their order. It waits for the file systems that they are in, no longer
// than ctx says.
func (d *Doors) Enter(ctx context.Context, who Process, sockets []*unit.Socket) (files []socket.File, err error) {
	for _, s := range sockets {
		of, err := d.enterOne(ctx, who, s)
		if err != nil {
			socket.Close(files)
			return nil, err // those that are open are shut when the service is known to be down
		}
		files = append(files, of...)
	}
	return files, nil
}

// enterOne waits for its turn, and then for the file system. Who does not wait any
// longer has nothing of it, also if it answers later.
func (d *Doors) enterOne(ctx context.Context, who Process, s *unit.Socket) ([]socket.File, error) {
	type entered struct {
		files []socket.File
		err   error
	}
	d.mu.Lock()
	door := d.use(s.Name)
	d.mu.Unlock()
	late := fmt.Errorf("cannot open socket %s: its file system does not answer", s.Name)
	select {
	case door.turn <- struct{}{}:
	case <-ctx.Done():
		d.leave(s.Name, door)
		return nil, late
	}
	done := make(chan entered)
	go func() {
		files, err := d.enter(door, who, s)
		<-door.turn
		d.leave(s.Name, door) // before the answer: whoever has it finds nothing in use any more
		select {
		case done <- entered{files, err}:
		case <-ctx.Done():
			socket.Close(files)
			d.Free(who, []*unit.Socket{s})
		}
	}()
	select {
	case e := <-done:
		return e.files, e.err
	case <-ctx.Done():
		return nil, late
	}
}

// enter needs the door's turn.
func (d *Doors) enter(door *door, who Process, s *unit.Socket) ([]socket.File, error) {
	d.mu.Lock()
	needs := d.demand.needs(who.Service, s.Name)
	d.mu.Unlock()
	if !needs {
		return nil, ErrUnwanted
	}
	err := d.table.Bind(s)
	if err == nil {
		err = d.table.Listen(s.Name)
	}
	if door.note(err); err != nil {
		return nil, err
	}
	ticket := d.admit(door, who)
	if err := d.table.Seat(s.Name, ticket, false); err != nil {
		return nil, d.named(err)
	}
	files, err := d.table.Copies(s, ticket)
	if err == nil {
		door.give(who, holder{ticket, cookies(files)})
	}
	return files, err
}

func cookies(files []socket.File) (all []uint64) {
	for _, f := range files {
		all = append(all, f.Cookie)
	}
	return all
}

// Free takes back what a process that has ended had of the sockets. It is done when
// it returns, but where a file system hangs.
func (d *Doors) Free(who Process, sockets []*unit.Socket) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, s := range sockets {
		ticket := d.leaves(s.Name, who)
		if ticket == 0 {
			continue
		}
		done := make(chan struct{})
		go func() { defer close(done); d.table.Free(s.Name, ticket) }()
		select {
		case <-done:
		case <-timer.C:
			timer.Reset(0) // nor is the next one waited for
		}
	}
}

// Leaving says that a process was told to end. It has its sockets until Free, and
// may do to them what a server does that goes.
func (d *Doors) Leaving(who Process, sockets []*unit.Socket) {
	for _, s := range sockets {
		d.table.Leaving(s.Name, d.ticket(s.Name, who))
	}
}
