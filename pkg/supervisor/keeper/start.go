package keeper

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A start is a child that the template was asked for. They are answered in their order,
// so what a manager has asked is there before the next manager is.
type start struct {
	spawn.Request
	lent []*files // whose descriptors it has
	own  []int    // closed when it was answered
	done func(*start)
}

func (k *keeper) newTemplate() (template, error) {
	fd := -1
	var t *spawn.Template
	t, err := spawn.New(spawn.Options{
		Null: k.null, Variables: k.Variables,
		Began: func(pid int) {
			fd = -1
			if k.lowered {
				setScore(strconv.Itoa(pid), k.score)
			}
		},
		Ended: func(int) { k.closed(fd) },
	})
	if err != nil {
		return nil, err
	}
	return &heardTemplate{Template: t, k: k, fd: &fd}, nil
}

// A heardTemplate is a template whose answers wake us.
type heardTemplate struct {
	*spawn.Template
	k  *keeper
	fd *int // that is watched; -1: a new one is not yet
}

// listen watches the template that there is now.
func (t *heardTemplate) listen() {
	if fd := t.FD(); fd >= 0 && *t.fd < 0 {
		if t.k.watch(fd, unix.EPOLLIN, t.heard) == nil {
			*t.fd = fd
		}
	}
}

// heard: an answer is collected before the next round. What nobody has asked for is its
// end.
func (t *heardTemplate) heard() {
	if len(t.k.starts) == 0 {
		t.Died(t.PID())
	}
}

// ask asks the template for a child.
func (k *keeper) ask(s *start) {
	if len(k.starts) == 0 {
		k.patience.in(spawn.Patience * time.Second)
	}
	k.starts = append(k.starts, s)
	k.template.Ask(&s.Request)
}

// collect does what is to be done with children that are there. It must not be called
// from there.
func (k *keeper) collect() {
	for k.template.Answered() != nil {
		s := k.starts[0]
		k.starts = k.starts[1:]
		k.answered++
		k.patience.stop()
		if len(k.starts) > 0 {
			k.patience.in(spawn.Patience * time.Second)
		}
		s.done(s)
		k.release(s)
	}
	if t, ok := k.template.(*heardTemplate); ok {
		t.listen()
	}
}

func (k *keeper) expired() {
	if len(k.starts) > 0 {
		k.patience.in(spawn.Patience * time.Second)
		k.template.Expired()
	}
}

// templateEnded is for a child that nobody knows.
func (k *keeper) templateEnded(pid int) bool {
	if k.template.PID() != pid {
		return false
	}
	k.template.Died(pid)
	return true
}

func (k *keeper) release(s *start) {
	for _, f := range s.lent {
		k.table.giveBack(f)
	}
	k.table.discard(s.own, nil)
}
