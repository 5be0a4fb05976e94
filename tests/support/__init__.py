"""What several tests share: families made of small files, a gateway in this process, an engine that misbehaves."""
