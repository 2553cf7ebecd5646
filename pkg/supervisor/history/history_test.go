package history

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A keeper is a history in a directory of its own, in virtual time: it has done
// what it can when all goroutines wait.
type keeper struct {
	*testing.T
	*Log
	dir    *safepath.Dir
	faults []string
}

// inTime runs f with a history in dir, or in a new directory.
func inTime(t *testing.T, path string, f func(*keeper)) {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "state")
	}
	synctest.Test(t, func(t *testing.T) {
		dir, err := safepath.MakeDir(path, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		k := &keeper{T: t, dir: dir}
		k.reopen()
		f(k)
		k.Close()
	})
}

// reopen begins the history that the next supervisord would have.
func (k *keeper) reopen() {
	k.Log = Open(k.dir, func(err error) { k.faults = append(k.faults, err.Error()) })
}

func (k *keeper) path(name string) string { return filepath.Join(k.dir.Path(), name) }

// add adds records with numbers from first to last, and waits until they are
// written or cannot be.
func (k *keeper) add(first, last int) {
	for i := first; i <= last; i++ {
		k.Add(numbered(i))
	}
	synctest.Wait()
}

func numbered(i int) []byte { return fmt.Appendf(nil, "{\"kind\":\"test\",\"lost\":%d}\n", i) }

// wants compares the last records, the newest first, with numbers; -n is a
// record that says n are lost.
func (k *keeper) wants(damaged int, numbers ...int) {
	k.Helper()
	var got []int
	bad, err := k.Backwards(func(record []byte) bool {
		var x struct {
			Kind string
			Lost int
		}
		if err := json.Unmarshal(record, &x); err != nil {
			k.Error(err)
		}
		if x.Kind == KindLost {
			x.Lost = -x.Lost
		}
		got = append(got, x.Lost)
		return len(got) < len(numbers)
	})
	if err != nil || bad != damaged || !slices.Equal(got, numbers) {
		k.Errorf("records %v, %d damaged, %v; want %v, %d damaged", got, bad, err, numbers, damaged)
	}
}

// said compares what its owner was told with parts of it.
func (k *keeper) said(parts ...string) {
	k.Helper()
	ok := len(k.faults) == len(parts)
	for i := range min(len(parts), len(k.faults)) {
		ok = ok && strings.Contains(k.faults[i], parts[i])
	}
	if !ok {
		k.Errorf("it was told %q, want %q", k.faults, parts)
	}
	k.faults = nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheNextSupervisordKnows(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		k.wants(0)
		k.add(1, 3)
		k.wants(0, 3, 2)
		k.Close()
		k.reopen()
		k.wants(0, 3, 2, 1)
		k.add(4, 4)
		k.wants(0, 4, 3, 2, 1)
		st, err := os.Stat(k.path(Name))
		must(t, err)
		if st.Mode() != 0o600 {
			t.Errorf("its mode is %v", st.Mode())
		}
		k.said()
	})
}

// What was added is read at once, though the disk be slow or broken.
func TestWhatWaitsIsRead(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		k.add(1, 2)
		must(t, os.Rename(k.path(Name), k.path("away")))
		must(t, os.Symlink("away", k.path(Name)))
		k.add(3, 4)
		k.said("cannot keep the history: cannot open " + k.path(Name) + ": it is a symbolic link")
		must(t, os.Rename(k.path("away"), k.path(Name)))
		k.wants(0, 4, 3, 2, 1)
		time.Sleep(retryAfter)
		synctest.Wait()
		k.wants(0, 4, 3, 2, 1)
		text, err := os.ReadFile(k.path(Name))
		must(t, err)
		if n := strings.Count(string(text), "\n"); n != 4 {
			t.Errorf("the file has %d lines:\n%s", n, text)
		}
	})
}

// A link, or a file that is not ours, is neither written nor read.
func TestLinkIsRefused(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		must(t, os.WriteFile(k.path("precious"), numbered(7), 0o600))
		must(t, os.Symlink("precious", k.path(Name)))
		k.add(1, 1)
		k.said("it is a symbolic link")
		if k.Err() == nil {
			t.Error("it says that all is well")
		}
		if _, err := k.Backwards(func([]byte) bool { return true }); err == nil || !strings.Contains(err.Error(), "cannot read the history: cannot open") {
			t.Errorf("reading it: %v", err)
		}
		if text, _ := os.ReadFile(k.path("precious")); string(text) != string(numbered(7)) {
			t.Errorf("what it leads to is now %q", text)
		}
		k.add(2, 2) // and that is said once
		k.said()
	})
}

func TestTornLineCostsNoOther(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		k.add(1, 2)
		f, err := os.OpenFile(k.path(Name), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		f.WriteString(`{"kind":"test","lo`)
		must(t, f.Close())
		k.wants(1, 2, 1)
		k.add(3, 3)
		k.said("ended within a record")
		k.wants(1, 3, 2, 1)
		k.add(4, 4)
		k.said()
	})
}

// Two files, and no more than a mebibyte in each.
func TestRotation(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		size := len(numbered(100_000))
		n := 100_000
		for range 5 * maxFile / maxPending {
			k.add(n, n+maxPending/size-1)
			n += maxPending / size
		}
		sum := int64(0)
		for _, name := range []string{Name, Name + ".1"} {
			st, err := os.Stat(k.path(name))
			must(t, err)
			if st.Size() > maxFile || st.Mode() != 0o600 {
				t.Errorf("%s has %d bytes and mode %v", name, st.Size(), st.Mode())
			}
			sum += st.Size()
		}
		var want []int
		for i := range int(sum) / size {
			want = append(want, n-1-i)
		}
		k.wants(0, want...)
		names, err := k.dir.Names()
		must(t, err)
		if len(want) < maxFile/size || len(names) != 2 {
			t.Errorf("%d records in %q", len(want), names)
		}
	})
}

// What finds no room while nothing can be written is counted, and the number is
// a record when something can.
func TestLostRecordsAreCounted(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		must(t, os.Mkdir(k.path(Name), 0o700))
		fits := maxPending / len(numbered(100_000))
		k.add(100_000, 100_000+fits+41)
		k.said("cannot keep the history: ")
		time.Sleep(retryAfter * 9 / 2)
		must(t, os.Remove(k.path(Name)))
		k.wants(0, 100_000+fits-1, 100_000+fits-2)
		time.Sleep(retryAfter)
		synctest.Wait()
		k.wants(0, -42, 100_000+fits-1, 100_000+fits-2)
		if err := k.Err(); err != nil {
			t.Errorf("it works again, and says %v", err)
		}
		k.Add(append(make([]byte, maxRecord), '\n'))
		synctest.Wait()
		k.wants(0, -1, -42)
		k.said()
	})
}

func TestDeletedFileBeginsAnew(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		k.add(1, 2)
		must(t, os.Remove(k.path(Name)))
		k.add(3, 3)
		k.wants(0, 3)
		k.said()
	})
}

// The directory is made again, as it was.
func TestDeletedDirectory(t *testing.T) {
	inTime(t, "", func(k *keeper) {
		k.add(1, 1)
		must(t, os.Chmod(k.dir.Path(), 0o711))
		must(t, os.RemoveAll(k.dir.Path()))
		k.add(2, 3)
		k.said()
		k.wants(0, 3, 2)
		if st, err := os.Stat(k.dir.Path()); err != nil || st.Mode().Perm() != 0o711 {
			t.Errorf("it is %v, %v", st, err)
		}
		if _, err := os.Stat(k.path(Name)); err != nil {
			t.Error(err)
		}
	})
}

// Readers see each record once, in order, while more are added and files rotated.
func TestReadersBesideTheWriter(t *testing.T) {
	dir, err := safepath.MakeDir(filepath.Join(t.TempDir(), "state"), 0o755)
	must(t, err)
	defer dir.Close()
	l := Open(dir, func(err error) { t.Error(err) })
	const last = 40_000
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for seen := 0; seen < last; {
				newest, n := 0, 0
				damaged, err := l.Backwards(func(record []byte) bool {
					var x struct{ Lost int }
					json.Unmarshal(record, &x)
					if n++; n == 1 {
						newest = x.Lost
					} else if x.Lost != newest-n+1 {
						t.Errorf("after %d records from %d on comes %d", n-1, newest, x.Lost)
						return false
					}
					return n < 100
				})
				if err != nil || damaged > 0 || newest < seen {
					t.Errorf("%d damaged, %v; the newest is %d after %d", damaged, err, newest, seen)
					return
				}
				seen = newest
			}
		})
	}
	for i := 1; i <= last; i++ {
		l.Add(fmt.Appendf(nil, "{\"lost\":%d,\"filling\":%q}\n", i, strings.Repeat("x", 50)))
		if i%2000 == 0 {
			l.flush()
		}
	}
	readers.Wait()
	l.Close()
}

func TestCut(t *testing.T) {
	long := strings.Repeat("é", maxText)
	for text, want := range map[string]string{
		"":         "",
		"short":    "short",
		long:       strings.Repeat("é", maxText/2) + fmt.Sprintf("… (%d bytes more)", maxText),
		"x" + long: "x" + strings.Repeat("é", maxText/2-1) + fmt.Sprintf("… (%d bytes more)", maxText+2),
	} {
		if got := Cut(text); got != want || !utf8.ValidString(got) {
			t.Errorf("Cut of %d bytes is %q", len(text), got)
		}
	}
}

// Whatever is in the file: each record that is told is one, of a size that is
// bounded, and a line that is added is told first.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "\n", "{}\n{}", "{\"kind\":1}\n\n{\n}\n", "null\n[]\n\"{}\"\n", "\x00\xff{}\n", strings.Repeat("{\"a\":", 30) + "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, told := strings.Split(string(text), "\n"), 0
		damaged, more := backwards(text, func(record []byte) bool {
			var x map[string]any
			if err := json.Unmarshal(record, &x); err != nil || len(record) > maxRecord {
				t.Errorf("%q is told: %v", record, err)
			}
			if !slices.Contains(lines, string(record)) {
				t.Errorf("%q is no line of it", record)
			}
			told++
			return true
		})
		if !more || told+damaged > len(lines) {
			t.Errorf("%d told and %d damaged of %d lines", told, damaged, len(lines))
		}
		first := ""
		backwards(append(append(text, '\n'), numbered(1)...), func(record []byte) bool {
			first = string(record)
			return false
		})
		if first+"\n" != string(numbered(1)) {
			t.Errorf("the first told is %q", first)
		}
	})
}
