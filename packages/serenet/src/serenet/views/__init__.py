"""Views: the microscope that recorded them, their PSF, files, background and refocusing."""
