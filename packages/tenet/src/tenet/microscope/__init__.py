"""The two-photon microscope of a configuration: PSF and imaging."""
