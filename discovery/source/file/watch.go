package file

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// retry is the wait before a watch that broke, or whose directory isn't there,
// is set up again.
const retry = time.Second

// Watch hints whenever a file may have changed; see discovery.Source. It
// returns nil when ctx ends. It sees what this host does: changes on a network
// file system that come from elsewhere wait for the next full comparison.
func (s *Source) Watch(ctx context.Context, hint func()) error {
	told := false
	for ctx.Err() == nil {
		err := s.follow(ctx, func() { told = false; hint() }, hint)
		if ctx.Err() != nil {
			break
		}
		if !told {
			s.log.Warn("Files can't be watched; trying again.", "path", s.path, diagnostics.KeyErr, err)
			told = true
		}
		if wait(ctx, retry) != nil {
			break
		}
	}
	return nil
}

// follow watches until what it watches is gone.
func (s *Source) follow(ctx context.Context, subscribed, hint func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return failure.Wrap(failure.Transient, err, "inotify: %v", err)
	}
	defer watcher.Close()
	watched := &scope{}
	if watched, err = s.watchAll(watcher, watched); err != nil {
		return err
	}
	subscribed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			// Among others: events were lost because there were too many.
			return failure.Wrap(failure.Transient, err, "inotify: %v", err)
		case event := <-watcher.Events:
			if !watched.concerns(event) {
				continue
			}
			// A symbolic link may lead elsewhere now, or a directory be another
			// one under the same name. The hint comes afterwards, so that
			// nothing falls into the gap.
			if watched, err = s.watchAll(watcher, watched); err != nil {
				return err
			}
			hint()
		}
	}
}

// scope is what is watched.
type scope struct {
	dirs []string
	// files are the paths that matter, as they're named and as they lead.
	files map[string]bool
}

// watchAll watches every directory in which a change can change what is read:
// where the path stands, where it leads, and the same for each file in it.
// Files themselves aren't watched, since editors replace them. What was watched
// before is watched anew.
func (s *Source) watchAll(watcher *fsnotify.Watcher, before *scope) (*scope, error) {
	for _, dir := range before.dirs {
		_ = watcher.Remove(dir) // it may be gone
	}
	now, err := s.scope()
	if err != nil {
		return nil, err
	}
	for _, dir := range now.dirs {
		if err := watcher.Add(dir); err != nil {
			return nil, failure.Wrap(failure.Transient, err, "%s can't be watched: %v", dir, err)
		}
	}
	return now, nil
}

func (s *Source) scope() (*scope, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, unreadable(s.path, err)
	}
	dirs := map[string]bool{}
	files := map[string]bool{s.path: true}
	if info.IsDir() {
		dirs[s.path] = true
		found, err := s.look()
		if err == nil { // else the reading says what is wrong
			for path := range found {
				files[path] = true
			}
		}
	}
	for _, path := range slices.Collect(maps.Keys(files)) {
		dirs[filepath.Dir(path)] = true
		if real, err := filepath.EvalSymlinks(path); err == nil {
			files[real] = true
			dirs[filepath.Dir(real)] = true
		}
	}
	return &scope{slices.Sorted(maps.Keys(dirs)), files}, nil
}

// concerns leaves out what other programs do beside our files. Kubernetes swaps
// a link named ..data.
func (s *scope) concerns(event fsnotify.Event) bool {
	base := filepath.Base(event.Name)
	return s.files[event.Name] || wanted(base) || strings.HasPrefix(base, "..")
}
