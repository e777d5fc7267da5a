// A client in C++: feeds.cpp PORT. A feed that is refreshed forgets the connection that it had.
#include "leaker.h"
#include <memory>
#include <string>
#include <vector>

namespace feeds {

class Channel {
public:
	explicit Channel(const sockaddr_in &address) : address_(address) {}
	virtual ~Channel() = default;
	virtual void refresh(const std::string &asked) = 0;

protected:
	void ask(int fd, const std::string &asked) const
	{
		char answer[16];
		if (send(fd, asked.data(), asked.size(), 0) < 0 || recv(fd, answer, sizeof answer, 0) <= 0)
			fail("ask");
	}
	sockaddr_in address_;
};

class Quotes : public Channel {
public:
	using Channel::Channel;
	void refresh(const std::string &asked) override
	{
		fd_ = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd_, reinterpret_cast<sockaddr *>(&address_), sizeof address_) < 0) // opener: feeds::Quotes::refresh
			fail("connect");
		ask(fd_, asked);
		say_leaked(fd_);
	}

private:
	int fd_ = -1;
};

class News : public Channel {
public:
	using Channel::Channel;
	void refresh(const std::string &asked) override
	{
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, reinterpret_cast<sockaddr *>(&address_), sizeof address_) < 0)
			fail("connect");
		ask(fd, asked);
		close(fd);
	}
};

} // namespace feeds

int main(int count, char **words)
{
	auto address = loopback(count > 1 ? words[1] : "0");
	std::vector<std::unique_ptr<feeds::Channel>> channels;
	channels.push_back(std::make_unique<feeds::Quotes>(address));
	channels.push_back(std::make_unique<feeds::News>(address));
	say_pid();
	for (unsigned round = 0;; round++) {
		if (IS_HEALTHY(round))
			channels[1]->refresh("news\n");
		if (LEAKS(round))
			channels[0]->refresh("quotes\n");
		rest();
	}
}
