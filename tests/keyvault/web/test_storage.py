import re

from django.contrib.staticfiles import finders
from django.core.files.base import ContentFile

from keyvault.web.storage import HashedStorage


def test_scripts_import_each_other_by_hashed_names(tmp_path):
    storage = HashedStorage(location=tmp_path, base_url="/static/")
    paths = {}
    for finder in finders.get_finders():
        for path, source in finder.list([]):
            with source.open(path) as file:
                storage._save(path, ContentFile(file.read()))
            paths[path] = (storage, path)

    failed = [path for path, _, done in storage.post_process(paths) if isinstance(done, Exception)]
    console = (tmp_path / storage.stored_name("js/console.js")).read_text()

    assert failed == []
    imports = re.findall(r'import\s*"([^"]+)"', console)
    assert imports
    assert all(re.search(r"\.[0-9a-f]{12}\.js$", name) for name in imports)


def test_the_stylesheet_points_to_hashed_fonts(tmp_path):
    storage = HashedStorage(location=tmp_path, base_url="/static/")
    names = ["css/tokens.css", "fonts/inter.woff2", "fonts/jbmono.woff2"]
    for name in names:
        with open(finders.find(name), "rb") as file:
            storage._save(name, ContentFile(file.read()))

    list(storage.post_process({name: (storage, name) for name in names}))
    css = (tmp_path / storage.stored_name("css/tokens.css")).read_text()

    assert re.search(r"inter\.[0-9a-f]{12}\.woff2", css)
