package metrics

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Counters count what happens to one service. They begin with supervisord, or with
// the service if that came later, and go with it. They are safe for use by several
// goroutines, and wait for none that does more than count.
type Counters struct {
	mu       sync.Mutex
	jobs     map[outcome]uint64
	exits    map[unit.Result]uint64
	restarts uint64
	drops    uint64 // in the course of reloads and restarts
}

// An outcome is how jobs of a verb ended.
type outcome struct {
	verb   unit.Verb
	result unit.JobResult
}

// NewCounters makes counters at zero. Reloads are counted from the start, for who
// wants to be told of the first that fails: an increase is seen only of a series
// that was there before.
func NewCounters() *Counters {
	return &Counters{
		jobs:  map[outcome]uint64{{unit.Reload, unit.Done}: 0, {unit.Reload, unit.Failed}: 0},
		exits: map[unit.Result]uint64{},
	}
}

// A countersRecord is what is stored of them.
type countersRecord struct {
	Jobs     []outcomeRecord
	Exits    map[unit.Result]uint64
	Restarts uint64
	Drops    uint64
}

type outcomeRecord struct {
	Verb   unit.Verb
	Result unit.JobResult
	N      uint64
}

// Record returns the counters, to be stored.
func (c *Counters) Record() json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := countersRecord{Exits: c.exits, Restarts: c.restarts, Drops: c.drops}
	for _, o := range c.outcomes() {
		r.Jobs = append(r.Jobs, outcomeRecord{o.verb, o.result, c.jobs[o]})
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // it is numbers and words
	}
	return text
}

// RestoreCounters makes counters that go on from a record. One that cannot be read counts
// as zero.
func RestoreCounters(record json.RawMessage) *Counters {
	c := NewCounters()
	var r countersRecord
	if json.Unmarshal(record, &r) != nil {
		return c
	}
	for _, o := range r.Jobs {
		c.jobs[outcome{o.Verb, o.Result}] = o.N
	}
	maps.Copy(c.exits, r.Exits)
	c.restarts, c.drops = r.Restarts, r.Drops
	return c
}

// Job counts a job that has ended.
func (c *Counters) Job(v unit.Verb, r unit.JobResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs[outcome{v, r}]++
}

// Exit counts a main process that has ended.
func (c *Counters) Exit(r unit.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exits[r]++
}

// Restart counts an automatic restart.
func (c *Counters) Restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarts++
}

// Reload counts what the kernel counted at the service's sockets in the course of
// one reload or restart.
func (c *Counters) Reload(sockets []ipc.SocketAccount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range sockets {
		c.drops += s.Drops
	}
}

// counted is what a family has of the counters of each service, by name.
func counted(of func(c *Counters, put put)) func(*Snapshot, put) {
	return func(s *Snapshot, to put) {
		for _, name := range slices.Sorted(maps.Keys(s.Counted)) {
			s.Counted[name].tell(of, func(value float64, labels ...string) { to(value, append([]string{name}, labels...)...) })
		}
	}
}

func (c *Counters) tell(of func(*Counters, put), to put) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of(c, to)
}

// outcomes are the jobs in a fixed order.
func (c *Counters) outcomes() []outcome {
	return slices.SortedFunc(maps.Keys(c.jobs), func(a, b outcome) int {
		return cmp.Or(cmp.Compare(a.verb, b.verb), cmp.Compare(a.result, b.result))
	})
}
