package socket

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func steeredSpec() *unit.Socket {
	s := spec("http", tcp("127.0.0.1", 0), tcp("::1", 0))
	s.Steer, s.Backlog = true, 4096
	return s
}

// heir goes on after f, which was killed, as supervisord does: it closes what nobody has
// taken.
func (f *former) heir() (*Table, *shelf) {
	f.t.Helper()
	table, kept := NewTable(nil), f.shelf()
	f.t.Cleanup(func() { table.Close() })
	table.Remember(kept, kept.save)
	if r := f.records["http"]; r != nil {
		must(f.t, table.Restore("http", *r, f.take))
	}
	for key, fd := range f.kept {
		kept.Drop(key)
		unix.Close(fd)
		delete(f.kept, key)
	}
	return table, kept
}

// shelf has what was kept and recorded.
func (s *shelf) wants(t *testing.T, what ...string) {
	t.Helper()
	var has []string
	for key := range s.kept {
		kind, _, _ := strings.Cut(key, "/")
		has = append(has, kind)
	}
	slices.Sort(has)
	slices.Sort(what)
	if !slices.Equal(has, what) {
		t.Errorf("kept are %v, not %v", has, what)
	}
}

// A steered socket outlives its supervisord: nobody is lost, who comes meanwhile is
// dealt as before, and the next one goes on with the very same objects.
func TestRingIsResumed(t *testing.T) {
	needSteering(t)
	s := steeredSpec()
	f := begun(t, s)
	f.do("listen", nil)
	f.do("open", 1)
	f.do("open", 2)
	f.do("steer", shares{1: 3, 2: 1})
	address := f.where()
	connect(t, address, 40)
	f.kill()
	connect(t, address, 40) // nobody is there, and it goes on
	table, kept := f.heir()
	if got := addressOf(table); got != address {
		t.Errorf("it has %s, not %s", got, address)
	}
	await(t, table, shares{1: 60, 2: 20})
	connect(t, address, 40)
	await(t, table, shares{1: 90, 2: 30}) // nobody has said anything yet
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	connect(t, address, 40)
	await(t, table, shares{1: 120, 2: 40})
	steer(t, table, shares{2: 1})
	connect(t, address, 10)
	await(t, table, shares{1: 120, 2: 50})
	table.Free("http", 1) // it has ended
	await(t, table, shares{2: 170})
	kept.wants(t, "deal", "program", "program", "socket", "socket", "socket", "socket", "sockets", "sockets")
	enter(t, table, 3)
	if table.Processes("http")[2].Holder != 3 {
		t.Errorf("there are %v", table.Processes("http"))
	}
	steer(t, table, shares{3: 1})
	table.Free("http", 2)
	await(t, table, shares{3: 170})
	steersAsItShould(t, table)
	must(t, table.Steer("http", nil, true))
	table.Free("http", 3)
	must(t, table.Drop("http"))
	kept.wants(t)
}

// Who was told to end and has shut its shard down meanwhile is not blamed for that; who
// was not told is.
func TestShardThatWasShutMeanwhile(t *testing.T) {
	needSteering(t)
	for _, told := range []bool{false, true} {
		f := begun(t, steeredSpec())
		f.do("listen", nil)
		f.do("open", 1)
		f.do("open", 2)
		f.do("steer", shares{1: 1})
		connect(t, f.where(), 5)
		f.do("steer", shares{2: 1})
		if told {
			f.do("leaving", 1)
			f.do("listen", nil) // it is looked at, and recorded
		}
		f.kill()
		must(t, unix.Shutdown(f.shardOf(1), unix.SHUT_RD))
		table := NewTable(nil)
		t.Cleanup(func() { table.Close() })
		found := watching(t, table)
		must(t, table.Restore("http", *f.records["http"], f.take))
		await(t, table, shares{2: 5})
		if told {
			table.watch.close() // waits for what is being told
			if len(found) > 0 {
				t.Errorf("found %v", <-found)
			}
			continue
		}
		if f := <-found; f.What != "shut it down" || f.Holder != 1 || f.Dead == 0 {
			t.Errorf("found %+v", f)
		}
	}
}

// shardOf is the shard that a process has at the first address.
func (f *former) shardOf(id unit.Invocation) int {
	f.t.Helper()
	for _, s := range f.records["http"].Sockets[0].Ring.Shards {
		if s.Holder == id {
			return f.kept[keyOf(s.Cookie)]
		}
	}
	f.t.Fatalf("%d has no shard", id)
	return -1
}

// Wherever supervisord is killed, between any two things that it has kept or recorded, no
// client is lost, and afterwards all is as it was to be.
func TestKilledAnywhere(t *testing.T) {
	needSteering(t)
	last := 1
	for ; killedAfter(t, last) && !t.Failed(); last++ {
	}
	if last < 20 {
		t.Errorf("it was all done after %d messages", last)
	}
	t.Logf("%d messages", last)
}

// killedAfter says whether it came to that.
func killedAfter(t *testing.T, n int) (killed bool) {
	f, s := begunUntil(t, n), steeredSpec()
	clients, lives, alive, wanted := 0, true, map[unit.Invocation]bool{}, shares{}
	do := func(word string, arg any) {
		if lives {
			_, lives = f.try(word, arg)
		}
	}
	open := func(id unit.Invocation) { do("open", id); alive[id] = lives }
	to := func(s shares) {
		if lives { // it is stored, and then done
			wanted = s
		}
		do("steer", s)
	}
	come := func() {
		if lives {
			connect(t, f.where(), 5)
			clients += 5
		}
	}
	do("bind", s)
	do("listen", nil)
	to(shares{1: 1})
	open(1)
	come()
	open(2)
	to(shares{2: 1})
	come()
	do("leaving", 1)
	if lives {
		alive[1] = false // it has ended
	}
	do("free", 1)
	come()
	if to(nil); lives {
		alive[2] = false
	}
	do("free", 2)
	come()
	open(3)
	to(shares{3: 1})
	come()
	f.kill()

	table, kept := f.heir()
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	must(t, table.Steer("http", wanted, false))
	for _, id := range []unit.Invocation{1, 2, 3} {
		if !alive[id] {
			table.Free("http", id)
		}
	}
	address := addressOf(table)
	connect(t, address, 3)
	waiting := func() (sum int) {
		for _, n := range queues(table) {
			sum += n
		}
		return sum
	}
	for range 20_000 {
		if waiting() == clients+3 {
			break
		}
		unix.Poll(nil, 1)
	}
	if got := waiting(); got != clients+3 {
		t.Errorf("killed after message %d: %d of %d clients wait: %v", n, got, clients+3, queues(table))
	}
	sockets := 2 // rooms
	for id, is := range alive {
		if is {
			sockets += 2
		}
		if has := slices.ContainsFunc(table.Processes("http"), func(p Process) bool { return p.Holder == id }); has != is {
			t.Errorf("killed after message %d: process %d is there: %v", n, id, has)
		}
	}
	kept.wants(t, append(slices.Repeat([]string{"socket"}, sockets), "deal", "program", "program", "sockets", "sockets")...)
	steersAsItShould(t, table)
	maps.DeleteFunc(alive, func(_ unit.Invocation, is bool) bool { return !is })
	if !maps.Equal(kept.records["http"].holders(), alive) {
		t.Errorf("killed after message %d: recorded are %v, alive are %v", n, kept.records["http"].holders(), alive)
	}
	return !lives
}

// holders are those that a record has shards of.
func (r *Record) holders() map[unit.Invocation]bool {
	all := map[unit.Invocation]bool{}
	for _, s := range r.Sockets[0].Ring.Shards {
		all[s.Holder] = true
	}
	return all
}
