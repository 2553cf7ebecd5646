package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func TestLastLinesOverRotatedFiles(t *testing.T) {
	for _, compress := range []bool{false, true} {
		s, _ := newSink(t, unit.Log{File: true, MaxSize: 1000, MaxFiles: 5, Compress: compress})
		st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
		for i := range 60 {
			say(st, burst(i))
		}
		awaitCompression(s)
		for _, n := range []int{0, 1, 9, 10, 11, 35, 60, 1000} {
			got := read(t, s, Query{N: n})
			if len(got) != min(n, 60) {
				t.Errorf("asked for %d lines, got %d", n, len(got))
				continue
			}
			for i, l := range got {
				if want := burst(60 - len(got) + i); string(l.Text)+"\n" != want {
					t.Errorf("line %d of the last %d is %q", i, n, l.Text)
				}
			}
		}
	}
}

// The seam between past and future: whoever joins in the middle of a flood, over
// many rotations, sees each line once and in order.
func TestFollowingJoinsWithoutGapOrDouble(t *testing.T) {
	s, _ := newSink(t, unit.Log{File: true, MaxSize: 5000, MaxFiles: maxPast})
	const n = 3000
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	joined := make(chan struct{}, n)
	said := make(chan struct{})
	go func() {
		defer close(said)
		for i := range n {
			say(st, burst(i))
			if i%100 == 50 {
				joined <- struct{}{}
			}
		}
	}()
	for range 10 {
		<-joined
		next := 0
		follow(t, s, Query{N: -1, Follow: true}, func(l Line) bool {
			if string(l.Text)+"\n" != burst(next) {
				t.Errorf("line %d is %q (%d lost)", next, l.Text, l.Lost)
			}
			next++
			return next < n && !t.Failed()
		})
	}
	<-said
}

func TestFollowingOneGeneration(t *testing.T) {
	s, _ := newSink(t, plenty)
	seven, eight := newStream(t, s, Meta{Invocation: 1, Generation: 7}), newStream(t, s, Meta{Invocation: 2, Generation: 8})
	say(seven, "a\n")
	say(eight, "b\n")
	var got []Line
	follow(t, s, Query{N: 10, Follow: true, Generation: 8}, func(l Line) bool {
		if got = append(got, l); len(got) == 1 {
			say(seven, "c\n")
			say(eight, "d\n")
		}
		return len(got) < 2
	})
	wantLines(t, got, "b", "d")
}

// Who takes lines too slowly holds up nobody, and learns how many he missed.
func TestSlowFollowerLosesLinesAndIsTold(t *testing.T) {
	s := Open(nil, "api", unit.Log{}, Elsewhere{}, Stage{})
	defer s.Close()
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	const n = 3 * maxRecent / 100
	var seen, lost int
	say(st, burst(0))
	follow(t, s, Query{Follow: true, N: -1}, func(l Line) bool {
		switch {
		case seen == 0:
			for i := 1; i < n; i++ {
				say(st, burst(i)) // while it is busy with the first
			}
		case l.Lost > 0:
			lost += int(l.Lost)
			return true
		case string(l.Text)+"\n" != burst(seen+lost):
			t.Errorf("after %d lines and %d lost comes %q", seen, lost, l.Text)
			return false
		}
		seen++
		return seen+lost < n
	})
	if lost == 0 || seen < maxRecent/(100+overhead)/2 {
		t.Errorf("%d lines seen, %d lost", seen, lost)
	}
	if s.hub.followers != 0 || s.hub.recent != nil {
		t.Error("chunks are kept for nobody")
	}
}

func TestFollowingEndsWithItsContextAndWithTheSink(t *testing.T) {
	s := Open(nil, "api", unit.Log{}, Elsewhere{}, Stage{})
	st := newStream(t, s, Meta{})
	say(st, "hello\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range s.Read(ctx, Query{N: 1, Follow: true}) {
		cancel()
	}
	for range s.Read(context.Background(), Query{N: 1, Follow: true}) {
		st.Finish()
		s.Close()
	}
}

// A file that cannot be read to its end costs its lines, and is named.
func TestDamagedFileDoesNotHideTheOthers(t *testing.T) {
	s, dir := newSink(t, unit.Log{File: true, MaxSize: 1000, MaxFiles: 5, Compress: true})
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	for i := range 25 {
		say(st, burst(i))
	}
	awaitCompression(s)
	packed, err := os.ReadFile(dir + "/api.log.1.gz")
	must(t, err)
	must(t, os.WriteFile(dir+"/api.log.1.gz", packed[:len(packed)-12], 0o640))

	var got []string
	var failed error
	for l, err := range s.Read(context.Background(), all) {
		if err != nil {
			failed = err
			continue
		}
		got = append(got, string(l.Text)+"\n")
	}
	text := strings.Join(got, "")
	if !strings.HasPrefix(text, bursted(0, 10)) || !strings.HasSuffix(text, bursted(20, 25)) {
		t.Errorf("got %d lines", len(got))
	}
	if failed == nil || !strings.Contains(failed.Error(), "cannot read all of the log of api: cannot read "+dir+"/api.log.1.gz: ") {
		t.Errorf("the error is: %v", failed)
	}
}

func TestIndexHasARecordWhereTheWriterChanges(t *testing.T) {
	s, dir := newSink(t, plenty)
	a, b := newStream(t, s, Meta{Invocation: 1, Tag: 1}), newStream(t, s, Meta{Invocation: 2})
	for range 10 {
		say(a, "a\n")
		say(a, "a\n")
		say(b, "b\n")
	}
	say(b, bursted(0, 3*indexBytes/100))
	settle(t, s)
	st, err := os.Stat(dir + "/api.log.idx")
	must(t, err)
	// One for the header; more if a second went by meanwhile.
	if n := st.Size() / recordSize; n < 21 || n > 50 {
		t.Errorf("there are %d records", n)
	}
	if got := read(t, s, Query{N: -1, Tag: 1}); len(got) != 20 {
		t.Errorf("got %d lines", len(got))
	}
}

// The log without its index, or with a broken one, is still read.
func TestHistoryWithoutUsableIndex(t *testing.T) {
	for what, spoil := range map[string]func(idx []byte) []byte{
		"gone":         func([]byte) []byte { return nil },
		"no header":    func(b []byte) []byte { return b[recordSize:] },
		"torn":         func(b []byte) []byte { return b[:len(b)-10] },
		"one bit":      func(b []byte) []byte { b[recordSize+3] ^= 1; return b },
		"out of order": func(b []byte) []byte { return append(b, b[recordSize:2*recordSize]...) },
	} {
		t.Run(what, func(t *testing.T) {
			d, dir := newDir(t)
			s := openSink(d, plenty)
			for i := range 3 {
				say(newStream(t, s, Meta{Invocation: unit.Invocation(i + 1)}), fmt.Sprintf("line %d\n", i))
			}
			s.Close()
			idx, err := os.ReadFile(dir + "/api.log.idx")
			must(t, err)
			must(t, os.WriteFile(dir+"/api.log.idx", spoil(idx), 0o640))

			s = openSink(d, plenty)
			defer s.Close()
			wantLines(t, read(t, s, all), "line 0", "line 1", "line 2")
			say(newStream(t, s, Meta{Invocation: 9, Tag: 9}), "new\n")
			wantLines(t, read(t, s, Query{N: -1, Tag: 9}), "new")
			wantLines(t, read(t, s, all), "line 0", "line 1", "line 2", "new")
		})
	}
}

// FuzzIndex: whatever an index holds, the log is read whole and in order.
func FuzzIndex(f *testing.F) {
	good := []byte(indexHeader)
	for i := range 3 {
		good = entry{Meta: Meta{Invocation: unit.Invocation(i + 1)}, offset: int64(10 * i), time: time.Unix(1e9, 0), lost: uint32(i)}.append(good)
	}
	text := []byte("123456789\nabcdefghi\nno end")
	f.Add(good, text)
	f.Add(good[:len(good)-5], text)
	f.Add(good[recordSize:], text)
	f.Add([]byte{}, []byte{})
	f.Add(append(good, good...), text)
	f.Fuzz(func(t *testing.T, idx, text []byte) {
		var got, want []string
		err := scan(bytes.NewReader(text), newMarker(bytes.NewReader(idx)), func(l Line) bool {
			if l.Text != nil {
				got = append(got, string(l.Text))
			}
			return true
		})
		for l := range lines(text) {
			want = append(want, string(l))
		}
		if err != io.EOF || !slices.Equal(got, want) {
			t.Errorf("got %q, %v\nwant %q", got, err, want)
		}
	})
}

// A disk that hangs holds up no reader for ever, and those that come and go leave
// nothing that grows.
func TestReadersOfADiskThatHangs(t *testing.T) {
	d := openDir(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		s := Open(d, "api", plenty, Elsewhere{}, Stage{})
		defer s.Close()
		st := &Stream{sink: s, meta: Meta{Invocation: 1}}
		s.end(st)
		say(st, "said\n")
		settle(t, s)
		stuck := make(chan struct{})
		s.errand(func() { <-stuck })

		var lines []string
		var failed error
		for l, err := range s.Read(t.Context(), all) {
			if failed = err; err == nil {
				lines = append(lines, string(l.Text))
			}
		}
		if !slices.Equal(lines, []string{"said"}) || !errors.Is(failed, errSilent) {
			t.Errorf("it reads %q, %v", lines, failed)
		}

		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 * maxAsking {
			for range s.Read(gone, all) {
			}
			s.Configure(plenty)
		}
		s.mu.Lock()
		if n := len(s.disk.queue); n > maxAsking {
			t.Errorf("%d errands wait", n)
		}
		s.mu.Unlock()
		close(stuck)
		settle(t, s)
		wantLines(t, read(t, s, all), "said")
	})
}
