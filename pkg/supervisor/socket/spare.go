package socket

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A socket whose name is removed cannot be named again: the kernel links no inode
// that has no name (link(2)). Some programs remove the path of a socket that they
// were given whenever they leave (php-fpm), and their successor would be left with
// a dead socket each time. So each socket has a second name, NAME.spare, from
// which the first is made again. Where that does not work (no hard links there, or
// both names are gone) the socket is replaced.

func (p *place) spare() string { return p.name + ".spare" }

// keepSpare gives the socket its second name, if that can be.
func (p *place) keepSpare() {
	err := p.link(procFD(p.node), unix.AT_FDCWD, p.spare(), unix.AT_SYMLINK_FOLLOW)
	if err == unix.EEXIST && p.clearSpare() == nil {
		p.link(procFD(p.node), unix.AT_FDCWD, p.spare(), unix.AT_SYMLINK_FOLLOW)
	}
}

func (p *place) link(from string, dir int, to string, flags int) error {
	return unix.Linkat(dir, from, p.dir.FD(), to, flags)
}

// clearSpare removes what a supervisord that was killed has left. Whatever else has
// that name stays.
func (p *place) clearSpare() error {
	node, err := p.lookAt(p.spare())
	if err != nil {
		return err
	}
	defer unix.Close(node)
	if err := vacant(node); err != nil {
		return err
	}
	return p.removeAt(p.spare(), node)
}

// putBack makes the name of the socket again, and says whether it did. What is there
// in its place is removed if nobody has it open.
func (p *place) putBack() bool {
	if p.node < 0 || !p.reached() || !p.isAt(p.spare()) {
		return false
	}
	err := p.link(p.spare(), p.dir.FD(), p.name, 0)
	if err == unix.EEXIST && p.clearName() == nil {
		err = p.link(p.spare(), p.dir.FD(), p.name, 0)
	}
	return err == nil && p.isAt(p.name)
}

// clearName removes a socket that nobody has from the name.
func (p *place) clearName() error {
	node, err := p.look()
	if err != nil {
		return err
	}
	defer unix.Close(node)
	if err := vacant(node); err != nil {
		return err
	}
	return p.remove(node)
}

// isAt says whether a name stands for the socket.
func (p *place) isAt(name string) bool {
	var is, was unix.Stat_t
	return unix.Fstat(p.node, &was) == nil &&
		unix.Fstatat(p.dir.FD(), name, &is, unix.AT_SYMLINK_NOFOLLOW) == nil && safepath.SameFile(is, was)
}

// find opens the inode that was bound before us, by its second name if the first is
// gone.
func (p *place) find(node Node) (err error) {
	p.node, err = p.look()
	if err == unix.ENOENT {
		p.node, err = p.lookAt(p.spare())
	}
	if err != nil {
		p.node = -1
		return err
	}
	if is := p.identity(); is == nil || *is != node {
		unix.Close(p.node)
		p.node, err = -1, errors.New("something else was put there meanwhile")
	}
	return err
}

// restored puts the path back.
func (l *listener) restored() (done bool) {
	if l.place != nil && l.fd >= 0 {
		l.atDisk("putting its path back", func() { done = l.place.putBack() })
	}
	return done
}
