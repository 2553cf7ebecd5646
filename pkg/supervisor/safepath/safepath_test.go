package safepath

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	d, err := MakeDir(t.TempDir()+"/a/b", 0711)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.Sub("state", 0700)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := s.Open("x", 0x42, 0640)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Log(s.Names())
	_, err = ReadFile(t.TempDir()+"/none/x", 100)
	t.Log(err)
	_, err = ReadFile("/etc/os-release", 100)
	t.Log(err)
	b, err := ReadFile("/etc/os-release", 1000)
	t.Log(len(b), err)
	_, err = OpenDir("/tmp/../etc/./mtab")
	t.Log(err)
}
