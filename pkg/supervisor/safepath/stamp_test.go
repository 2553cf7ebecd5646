package safepath

import (
	"os"
	"testing"
	"time"
)

func TestStampTellsEveryChangeThatTheClockTells(t *testing.T) {
	dir := scratch(t)
	path := dir + "/file"
	past := time.Now().Add(-time.Hour)
	write := func() {
		must(t, os.WriteFile(path, []byte("text"), 0o600))
		must(t, os.Chtimes(path, past, past))
	}
	for what, change := range map[string]func() error{
		"another size":  func() error { return os.WriteFile(path, []byte("longer"), 0o600) },
		"another mtime": func() error { return os.Chtimes(path, past, past.Add(time.Second)) },
		"another file in its place": func() error {
			must(t, os.WriteFile(dir+"/new", []byte("text"), 0o600))
			must(t, os.Chtimes(dir+"/new", past, past))
			return os.Rename(dir+"/new", path)
		},
	} {
		write()
		_, before, err := ReadStamped(path, 100)
		must(t, err)
		if again, err := StampOf(path); err != nil || again != before {
			t.Errorf("untouched: %+v, then %+v, %v", before, again, err)
		}
		must(t, change())
		if after, err := StampOf(path); err != nil || after == before {
			t.Errorf("%s: the same stamp, %v", what, err)
		}
	}
}

func TestStampIsOfTheTargetOfALink(t *testing.T) {
	dir := scratch(t)
	touch(t, dir+"/file", 0o600, os.Geteuid())
	link(t, "file", dir+"/link", os.Geteuid())
	direct, err := StampOf(dir + "/file")
	must(t, err)
	_, read, err := ReadStamped(dir+"/link", 100)
	must(t, err)
	by, err := StampOf(dir + "/link")
	must(t, err)
	if read != direct || by != direct {
		t.Errorf("%+v, by the link %+v and %+v", direct, read, by)
	}
	if s, err := StampOf(dir + "/none"); err == nil || s != (Stamp{}) {
		t.Errorf("of no file: %+v, %v", s, err)
	}
}

func TestFreshIsWhatTheClockMayNotTellApart(t *testing.T) {
	s := Stamp{mtime: 100 * time.Second, ctime: 200 * time.Second}
	for now, want := range map[int64]bool{199: true, 200: true, 201: true, 203: false, 300: false} {
		if got := s.Fresh(time.Unix(now, 0)); got != want {
			t.Errorf("at %d: %v", now, got)
		}
	}
}
