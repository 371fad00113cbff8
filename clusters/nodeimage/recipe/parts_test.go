package recipe

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestEnough(t *testing.T) {
	look := func(path string) (filesystem, error) {
		switch path {
		case "/small":
			return filesystem{device: 1, freeBytes: 2 * gibibyte}, nil
		case "/big", "/big/too":
			return filesystem{device: 2, freeBytes: 5 * gibibyte}, nil
		}
		return filesystem{}, errors.New("no such path")
	}
	for _, test := range []struct {
		places []place
		want   string
	}{
		{[]place{{"x", "/small", 2 * gibibyte}, {"y", "/big", 5 * gibibyte}}, ""},
		{[]place{{"x", "/small", 2*gibibyte + 1}}, "/small needs 2.0 GiB for x, and 2.0 GiB are free"},
		{
			[]place{{"x", "/big", 3 * gibibyte}, {"y", "/big/too", 3 * gibibyte}},
			"/big needs 6.0 GiB for x and y, and 5.0 GiB",
		},
		{[]place{{"x", "/gone", 1}}, "no such path"},
	} {
		err := enough(test.places, look)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: got %v", test.places, err)
		}
	}
}

func TestFreeLooksAboveWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	here, err := free(dir)
	if err != nil {
		t.Fatal(err)
	}
	below, err := free(filepath.Join(dir, "not", "made", "yet"))
	if err != nil || below.device != here.device || below.freeBytes == 0 {
		t.Errorf("got %+v, %v", below, err)
	}
}

func TestSandboxImage(t *testing.T) {
	got, err := sandboxImage("[x]\n  # sandbox_image = \"no\"\n  sandbox_image = \"registry.k8s.io/pause:3.10\"\n")
	if err != nil || got != "registry.k8s.io/pause:3.10" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := sandboxImage("[x]\n"); err == nil {
		t.Error("a configuration without one passed")
	}
}

func TestKubeadmImage(t *testing.T) {
	layers := map[string]string{"kubernetes": "k", "etcd": "e", "coredns": "c", "pause": "p"}
	for image, want := range map[string][]string{
		"registry.k8s.io/kube-proxy:v1.36.3":       {"k", "tools"},
		"registry.k8s.io/kube-apiserver:v1.36.3":   {"k"},
		"registry.k8s.io/coredns/coredns:v1.14.2":  {"c"},
		"registry.k8s.io/pause:3.10":               {"p"},
		"registry.test:5000/mirror/etcd:3.6.8-0":   {"e"},
		"registry.k8s.io/kube-scheduler-x:v1.36.3": nil,
	} {
		got, err := kubeadmImage(image, layers, "tools")
		if (err == nil) != (want != nil) || !reflect.DeepEqual(got.layers, want) {
			t.Errorf("%s: got %v, %v", image, got, err)
		}
	}
}

func TestPodSpec(t *testing.T) {
	spec := `{"process":{"rlimits":[{"type":"RLIMIT_NOFILE"}],"args":["sh"]},"hooks":{"createContainer":[{"path":"/a"}]},
	 "linux":{"resources":{"memory":{"limit":9007199254740993}}}}`
	got, err := podSpec([]byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"process":{"args":["sh"]},"hooks":{"createContainer":[{"path":"/a"},` +
		`{"path":"/kind/bin/mount-product-files.sh"}]},"linux":{"resources":{"memory":{"limit":9007199254740993}}}}`
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got %s", got)
	}
	if !bytes.Contains(got, []byte("9007199254740993")) {
		t.Error("a number lost its digits")
	}
	if _, err := podSpec([]byte(`{}`)); err == nil {
		t.Error("a spec without a process passed")
	}
}

func TestMountsBelow(t *testing.T) {
	lines := []string{
		"22 1 0:21 / /proc rw - proc proc rw",
		"90 1 0:40 / /cache/unfinished/base/root/proc rw - proc proc rw",
		"91 1 0:41 / /cache/unfinished/base/root/proc/sys/x rw - y y rw",
		`92 1 0:42 / /cache/unfinished/with\040space rw - y y rw`,
		"93 1 0:43 / /cache/unfinished2 rw - y y rw",
		"short line",
	}
	want := []string{
		"/cache/unfinished/with space", "/cache/unfinished/base/root/proc/sys/x", "/cache/unfinished/base/root/proc",
	}
	if got := mountsBelow(lines, "/cache/unfinished"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestKubernetesVersion(t *testing.T) {
	flags := strings.Join(kubernetesVersion("v1.36.3"), " ")
	for _, want := range []string{
		"-X k8s.io/component-base/version.gitVersion=v1.36.3", "-X k8s.io/client-go/pkg/version.gitMinor=36",
		"-X k8s.io/component-base/version.gitMajor=1",
	} {
		if !strings.Contains(flags, want) {
			t.Errorf("no %s in %s", want, flags)
		}
	}
}

func TestWriteLayerMakesWhatAPathNeeds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "program", "text")
	write(t, dir, "tree/kind/bin/x.sh", "#!")
	write(t, dir, "tree/etc/y", "y")
	file := filepath.Join(dir, "layer.tar")
	tree := func(l *layer) error { return l.tree("", filepath.Join(dir, "tree"), kindMode) }
	put := fill(program("usr/bin/p", filepath.Join(dir, "program")), symlink("usr/bin/q", "p"), tree)
	if err := writeLayer(file, put); err != nil {
		t.Fatal(err)
	}
	appended := filepath.Join(dir, "both.tar")
	again := func(l *layer) error { return l.append(file) }
	if err := writeLayer(appended, fill(again, textFile("usr/bin/r", "r"))); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"usr/ 755", "usr/bin/ 755", "usr/bin/p 755", "usr/bin/q 777", "etc/ 755", "etc/y 644", "kind/ 755",
		"kind/bin/ 755", "kind/bin/x.sh 755", "usr/bin/r 644",
	}
	if got := list(t, appended); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func list(t *testing.T, name string) []string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var names []string
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name+" "+strconv.FormatInt(header.Mode, 8))
	}
}

func TestWriteImagesSharesLayers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "program", strings.Repeat("text", 1000))
	shared := filepath.Join(dir, "shared.tar")
	if err := writeLayer(shared, fill(program("p", filepath.Join(dir, "program")))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "images.tar")
	err := writeImages(file, map[string]content{
		"rebound.local/a:v1":         {layers: []string{shared}, entrypoint: []string{"/p"}},
		"registry.k8s.io/b/c:v2.3-0": {layers: []string{shared}},
	})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("rebound.local/a:v1")
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil || config.Architecture != runtime.GOARCH || strings.Join(config.Config.Entrypoint, " ") != "/p" {
		t.Errorf("got %+v, %v", config, err)
	}
	layers := 0
	for _, entry := range list(t, file) {
		if strings.Contains(entry, ".tar.gz") {
			layers++
		}
	}
	if layers != 1 {
		t.Errorf("the archive holds %d layers", layers)
	}
}

func TestClosureFollowsLoadersAndLibraries(t *testing.T) {
	names, err := closure("/", []string{"usr/bin/env"})
	if err != nil {
		t.Skipf("this machine's libraries lie elsewhere: %v", err)
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "usr/bin/env") || !strings.Contains(all, "libc.so") {
		t.Errorf("got %s", all)
	}
	if _, err := closure("/", []string{"etc/passwd"}); err == nil {
		t.Error("a text file passed for a program")
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv("REBOUND_CACHE", "/disk")
	if dir, err := CacheDir(); err != nil || dir != "/disk/rebound/nodeimage" {
		t.Errorf("got %s, %v", dir, err)
	}
	t.Setenv("REBOUND_CACHE", "relative")
	if dir, err := CacheDir(); err == nil {
		t.Errorf("got %s and no error", dir)
	}
	t.Setenv("REBOUND_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/xdg")
	if dir, err := CacheDir(); err != nil || dir != "/xdg/rebound/nodeimage" {
		t.Errorf("got %s, %v", dir, err)
	}
}
