"""What everything else stands on: errors, exit statuses, files from outside, numbers and sentences."""
