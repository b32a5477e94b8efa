from marketplace.static_files import StaticFiles


def test_pages_files_are_compressed_once_and_source_maps_are_not() -> None:
    compressor = StaticFiles().create_compressor(quiet=True)

    assert compressor.should_compress("css/site.css")
    assert not compressor.should_compress("swagger-ui-bundle.js.map")
    assert not compressor.should_compress("logo.png")
    assert (compressor.use_gzip, compressor.use_brotli) == (True, False)
